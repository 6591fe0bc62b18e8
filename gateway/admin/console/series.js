// What cumulative counters tell: how much they grew between two samples, per second, and quantiles of histograms.
// A sample is {at, metrics}; a metric {labels, series: [[values, number]]}, of a histogram {le, series: [[values, counts, sum]]}.

export const WINDOW_S = 300;
const RATE_S = 5;
const FINE_S = 30;

// Returns how much a counter grew, by the values of the labels `by`. `where`: label → the value it must have.
export function growth(older, newer, name, by = [], where = {}) {
  const sums = new Map();
  each(older, newer, name, by, where, (key, now, before) => {
    sums.set(key, (sums.get(key) ?? 0) + (now >= before ? now - before : now));
  });
  return sums;
}

export function total(sums) {
  let all = 0;
  for (const value of sums.values()) all += value;
  return all;
}

// Returns the sum of a gauge, null if there is none of it.
export function level(sample, name, where = {}) {
  let sum = null;
  each(null, sample, name, [], where, (_, now) => { sum = (sum ?? 0) + now; });
  return sum;
}

// Returns what a histogram took up between two samples: upper bounds, and cumulative counts.
export function spread(older, newer, name, where = {}) {
  const metric = newer?.metrics[name];
  if (!metric?.le) return null;
  const counts = metric.le.map(() => 0);
  each(older, newer, name, [], where, (_, now, before) => {
    const last = now.length - 1;
    const afresh = !before || now[last] < before[last];
    now.forEach((value, at) => { counts[at] += afresh ? value : value - before[at]; });
  });
  return { bounds: metric.le.map((bound) => (bound === '+Inf' ? Infinity : Number(bound))), counts };
}

// Returns a quantile, as Prometheus' histogram_quantile does: linear within a bucket; null where nothing was taken up.
// https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
export function quantile(q, histogram) {
  if (!histogram) return null;
  const { bounds, counts } = histogram;
  const all = counts[counts.length - 1];
  if (!(all > 0)) return null;
  const rank = q * all;
  const at = counts.findIndex((value) => value >= rank);
  if (bounds[at] === Infinity) return at > 0 ? bounds[at - 1] : null;
  const low = at > 0 ? bounds[at - 1] : 0;
  const before = at > 0 ? counts[at - 1] : 0;
  const inside = counts[at] - before;
  return inside > 0 ? low + (bounds[at] - low) * ((rank - before) / inside) : bounds[at];
}

function each(older, newer, name, by, where, take) {
  const metric = newer?.metrics[name];
  if (!metric) return;
  const wanted = Object.entries(where).map(([label, value]) => [metric.labels.indexOf(label), value]);
  const places = by.map((label) => metric.labels.indexOf(label));
  const before = new Map((older?.metrics[name]?.series ?? []).map((row) => [row[0].join('\u0000'), row[1]]));
  for (const [values, number] of metric.series) {
    if (wanted.some(([at, value]) => at < 0 || values[at] !== value)) continue;
    const known = before.get(values.join('\u0000'));
    take(places.map((at) => values[at]).join('\u0000'), number, known ?? (Array.isArray(number) ? null : 0));
  }
}

// The samples of the last minutes: every one of the last seconds, and of what is older one each five seconds.
export class Samples {
  constructor() {
    this.all = [];
  }

  get newest() {
    return this.all[this.all.length - 1] ?? null;
  }

  add(sample) {
    if (this.newest && sample.at <= this.newest.at) return false;
    this.all.push(sample);
    const kept = [];
    for (const each of this.all) {
      const age = sample.at - each.at;
      if (age > WINDOW_S + RATE_S) continue;
      const last = kept[kept.length - 1];
      if (age > FINE_S && last && each.at - last.at < RATE_S - 0.5) continue;
      kept.push(each);
    }
    this.all = kept;
    return true;
  }

  // Returns the newest sample that is at least so many seconds older than another; else the oldest there is.
  before(sample, seconds) {
    let found = null;
    for (const each of this.all) {
      if (each.at > sample.at - seconds + 0.25 && found) break;
      if (each.at >= sample.at) break;
      found = each;
    }
    return found;
  }

  // Returns [at, value] of each sample; `tell(older, newer, seconds)` makes a value of two.
  points(tell, over = RATE_S) {
    const made = [];
    for (const newer of this.all) {
      const older = this.before(newer, over);
      if (older) made.push([newer.at, tell(older, newer, newer.at - older.at)]);
    }
    return made;
  }
}
