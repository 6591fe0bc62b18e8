// Elements, made of text and attributes only: whatever a name or an answer holds, it stays text.

const SVG = 'http://www.w3.org/2000/svg';

// Returns an element. Properties that begin with "on" are listeners; null and false leave an attribute out.
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

// Puts other text into an element, if it is other text: what is read aloud or selected is not disturbed for nothing.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A table whose columns are sorted by buttons. `columns`: {name, title, number, value(row), cell(row), sorted: false}.
export class Table {
  constructor({ caption, columns, by, down = false, empty }) {
    this.columns = columns;
    this.by = by;
    this.down = down;
    this.rows = [];
    this.heads = columns.map((column) => this.head(column));
    this.body = h('tbody');
    this.nothing = h('p', { class: 'empty' }, empty);
    this.element = h('div', {},
      h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
        h('table', {}, h('caption', {}, caption), h('thead', {}, h('tr', {}, this.heads)), this.body)),
      this.nothing);
    this.mark();
  }

  head(column) {
    const name = column.sorted === false ? column.title
      : h('button', { type: 'button', onclick: () => this.sort(column.name) }, column.title);
    return h('th', { scope: 'col', class: column.number ? 'n' : null }, name);
  }

  sort(name) {
    this.down = this.by === name ? !this.down : this.columns.find((column) => column.name === name).number === true;
    this.by = name;
    this.mark();
    this.show(this.rows);
  }

  mark() {
    this.columns.forEach((column, at) => {
      if (column.name === this.by) this.heads[at].setAttribute('aria-sort', this.down ? 'descending' : 'ascending');
      else this.heads[at].removeAttribute('aria-sort');
    });
  }

  // Shows rows, each an object with `id`. Rows that are shown already keep their place in the document and the focus.
  show(rows) {
    this.rows = rows;
    const column = this.columns.find(({ name }) => name === this.by);
    const sorted = column ? [...rows].sort((a, b) => order(column.value(a), column.value(b)) * (this.down ? -1 : 1)) : rows;
    const known = new Map([...this.body.children].map((element) => [element.rowId, element]));
    sorted.forEach((row, at) => {
      let element = known.get(row.id);
      known.delete(row.id);
      if (!element || element.stamp !== row.stamp || row.stamp === undefined) {
        const fresh = this.row(row);
        if (element && !element.contains(document.activeElement)) element.replaceWith(fresh);
        else if (element) this.refresh(element, fresh);
        element = element && element.isConnected ? element : fresh;
      }
      if (this.body.children[at] !== element) this.body.insertBefore(element, this.body.children[at] ?? null);
    });
    for (const element of known.values()) element.remove();
    this.nothing.hidden = rows.length > 0;
  }

  // A row that holds the focus gets the new cells but for the one that is focused.
  refresh(element, fresh) {
    const cells = [...fresh.children];
    [...element.children].forEach((cell, at) => {
      if (!cell.contains(document.activeElement)) cell.replaceWith(cells[at]);
    });
    element.stamp = fresh.stamp;
  }

  row(row) {
    const cells = this.columns.map((column, at) => {
      const inside = column.cell ? column.cell(row) : column.value(row);
      const kind = [column.number ? 'n' : '', column.kind ?? ''].join(' ').trim() || null;
      return at === 0 ? h('th', { scope: 'row', class: kind }, inside) : h('td', { class: kind }, inside ?? '–');
    });
    const element = h('tr', { class: 'row' }, cells);
    element.rowId = row.id;
    element.stamp = row.stamp;
    return element;
  }
}

function order(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
}
