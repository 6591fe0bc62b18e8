// How a deployment is, judged by its attempts alone, and why, in words.

import { growth } from './series.js';

const LATELY_S = 10;
const ENOUGH = 5;
const LONG_S = 300;

const REASONS = {
  upstream_auth: 'AWS refuses the gateway’s credentials',
  upstream_error: 'the container fails',
  upstream_misconfigured: 'no such endpoint, or it takes no such call',
  upstream_protocol: 'its answers are broken',
  upstream_throttled: 'SageMaker throttles it',
  upstream_timeout: 'it takes too long',
  upstream_tls: 'its certificate is not trusted',
  upstream_unavailable: 'it cannot be reached',
  model_not_ready: 'its model is not ready',
  internal_error: 'the gateway itself failed',
};

// Says whether a code is the deployment's doing, not the caller's.
export function isFault(code) {
  return code in REASONS || code.startsWith('upstream_');
}

// Returns {level: good | warn | bad | none, word, reason}. What has lately happened counts, if it is enough to judge by.
export function health(samples, model, deployment) {
  const now = samples.newest;
  const where = { model, deployment };
  let span = LATELY_S;
  let codes = between(samples, now, span, where);
  if (sum(codes) < ENOUGH) {
    span = LONG_S;
    codes = between(samples, now, span, where);
  }
  const all = sum(codes);
  const time = span === LATELY_S ? `in the last ${LATELY_S} s` : `in the last ${LONG_S / 60} min`;
  if (all === 0) return { level: 'none', word: 'No calls', reason: `no attempt ${time}` };
  const faults = [...codes].filter(([code, n]) => isFault(code) && n > 0).sort((a, b) => b[1] - a[1]);
  const failed = faults.reduce((n, [, each]) => n + each, 0);
  if (failed === 0) return { level: 'good', word: 'Healthy', reason: `${all} ${all === 1 ? 'attempt' : 'attempts'} ${time}, none failed` };
  const why = faults.map(([code, n]) => `${REASONS[code] ?? code} (${n}×)`).join(', ');
  const bad = failed * 2 >= all;
  return { level: bad ? 'bad' : 'warn', word: bad ? 'Failing' : 'Unsteady', reason: `${failed} of ${all} attempts failed ${time}: ${why}` };
}

function between(samples, now, span, where) {
  const older = now && samples.before(now, span);
  return older ? growth(older, now, 'attempts', ['code'], where) : new Map();
}

function sum(codes) {
  return [...codes.values()].reduce((n, each) => n + each, 0);
}
