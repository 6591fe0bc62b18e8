// Numbers as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(n) {
  if (n === null || n === undefined) return '–';
  if (n >= 10_000_000) return `${(n / 1e6).toFixed(0)} M`;
  if (n >= 100_000) return `${(n / 1e3).toFixed(0)} k`;
  return whole.format(n);
}

export function perSecond(n) {
  if (n === null || n === undefined) return '–';
  return n >= 100 ? whole.format(n) : String(Number(n.toFixed(n >= 10 ? 1 : 2)));
}

// Takes seconds.
export function duration(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return '–';
  const ms = s * 1000;
  if (ms === 0) return '0';
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return s < 10 ? `${s.toFixed(2)} s` : s < 120 ? `${s.toFixed(1)} s` : `${(s / 60).toFixed(1)} min`;
}

export function share(part, of) {
  if (!of) return '–';
  const percent = (100 * part) / of;
  return percent === 0 ? '0 %' : percent < 1 ? '< 1 %' : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

export function bytes(n) {
  return n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`;
}
