// Lines over the last minutes, as SVG: a scale that fits, gaps where nothing is known, and the newest value in words.

import { h, say, svg } from './dom.js';
import { WINDOW_S } from './series.js';

const HEIGHT = 110;
const LEFT = 42;
const BOTTOM = 14;

export class Chart {
  // `lines`: names, at most four. `unit(value)` says a value in words.
  constructor(title, lines, unit) {
    this.unit = unit;
    this.values = lines.map(() => h('b', {}, '–'));
    this.paths = lines.map((_, at) => svg('path', { class: `line-${at + 1}` }));
    this.scale = [0, 0.5, 1].map((part) => {
      const y = (HEIGHT - BOTTOM) * (1 - part) + 4;
      return svg('text', { x: LEFT - 6, y: y + 3, 'text-anchor': 'end' });
    });
    this.described = svg('title');
    this.axes = [0, 0.5, 1].map((part) => {
      const y = (HEIGHT - BOTTOM) * (1 - part) + 4;
      return svg('line', { class: 'axis', x1: LEFT, y1: y, y2: y });
    });
    this.end = svg('text', { y: HEIGHT + 3, 'text-anchor': 'end' }, 'now');
    this.picture = svg('svg', { role: 'img' }, this.described, this.axes, this.scale,
      svg('text', { x: LEFT, y: HEIGHT + 3 }, `${WINDOW_S / 60} min ago`), this.end, this.paths);
    this.width = 0;
    this.element = h('figure', { class: 'chart card' },
      h('figcaption', {}, h('span', {}, title), h('span', { class: 'legend' },
        lines.map((name, at) => h('span', {}, h('i', { class: `key-${at + 1}` }), `${name} `, this.values[at])))),
      this.picture);
    this.title = title;
    this.names = lines;
  }

  // `series`: for each line its [at, value], oldest first; `now` is the right edge.
  show(series, now) {
    let top = rounded(Math.max(0, ...series.flat().map(([, value]) => value ?? 0)));
    // Where only whole numbers are told, half of one would be told as another one.
    if (this.unit(top / 2) === this.unit(top)) top *= 2;
    const width = this.fit();
    const x = (at) => LEFT + (width - LEFT) * (1 - (now - at) / WINDOW_S);
    const y = (value) => 4 + (HEIGHT - BOTTOM) * (1 - value / top);
    series.forEach((points, line) => {
      let d = '';
      let pen = 'M';
      for (const [at, value] of points) {
        if (value === null || now - at > WINDOW_S) {
          pen = 'M';
          continue;
        }
        d += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
        // A single point is a short line, as a path of one point is not to be seen.
        if (pen === 'M') d += 'h.8';
        pen = 'L';
      }
      this.paths[line].setAttribute('d', d);
      const last = points[points.length - 1]?.[1] ?? null;
      say(this.values[line], this.unit(last));
    });
    this.scale.forEach((text, at) => say(text, this.unit((top * at) / 2)));
    say(this.described, `${this.title}, now: ${this.names.map((name, at) => `${name} ${this.values[at].textContent}`).join(', ')}`);
  }

  // Takes the width that there is, so that a unit is a pixel and text keeps its shape.
  fit() {
    const width = this.picture.clientWidth || 400;
    if (width !== this.width) {
      this.width = width;
      this.picture.setAttribute('viewBox', `0 0 ${width} ${HEIGHT + 6}`);
      this.end.setAttribute('x', width);
      for (const axis of this.axes) axis.setAttribute('x2', width);
    }
    return width;
  }
}

// Returns the next number of 1, 2 or 5 times a power of ten.
function rounded(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((part) => part * power).find((bound) => bound >= most * 0.999);
}
