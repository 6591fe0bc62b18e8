// The page: who may see it, which section is shown, and what is asked for each second.

import { Calls } from './calls.js';
import { byId, say } from './dom.js';
import { Limits } from './limits.js';
import { Overview } from './overview.js';
import { Playground } from './playground.js';
import { Samples } from './series.js';

const EACH_MS = 1000;
const LIMITS_EACH = 3;
const KEY = 'lmi-gateway-admin-key';
const THEME = 'lmi-gateway-theme';
const SECTIONS = ['overview', 'calls', 'limits', 'playground'];

const page = { samples: new Samples(), cursor: null, about: null, parts: null, timer: null, ticks: 0, run: 0 };

// Asks the administration; returns {ok, status, body, message}. Never throws.
async function ask(path) {
  try {
    const reply = await fetch(path, { headers: { authorization: `Bearer ${sessionStorage.getItem(KEY)}` }, cache: 'no-store' });
    const body = await reply.json();
    return { ok: reply.ok, status: reply.status, body, message: body.error?.message ?? '' };
  } catch {
    return { ok: false, status: 0, body: null, message: 'The administration cannot be reached.' };
  }
}

function state(level, text) {
  byId('state').className = `state ${level}`;
  say(byId('state'), text);
}

function refused({ status, message }) {
  if (status !== 401 && status !== 429) return false;
  leave(status === 401 ? 'This is not the administration’s key.' : message);
  return true;
}

function leave(why = '') {
  sessionStorage.removeItem(KEY);
  clearTimeout(page.timer);
  page.run += 1;
  Object.assign(page, { samples: new Samples(), cursor: null, about: null, parts: null });
  for (const name of SECTIONS) byId(name).replaceChildren();
  state('', '');
  showSection();
  say(byId('login-error'), why);
  byId('admin-key').value = '';
  byId('admin-key').focus();
}

async function enter() {
  const about = await ask('/admin/about');
  if (!about.ok) {
    if (!refused(about)) leave(about.message);
    return;
  }
  const run = (page.run += 1);
  page.about = about.body;
  say(byId('version'), about.body.version);
  page.parts = {
    overview: new Overview(byId('overview'), about.body, page.samples),
    calls: new Calls(byId('calls')),
    limits: new Limits(byId('limits'), about.body, ask),
    playground: new Playground(byId('playground'), about.body, () => sessionStorage.getItem(KEY)),
  };
  say(byId('login-error'), '');
  showSection();
  byId('main').focus({ preventScroll: true });
  const history = await ask('/admin/live/history');
  if (run !== page.run) return;
  if (history.ok) history.body.samples.forEach((sample) => page.samples.add(sample));
  page.ticks = 0;
  await tick(run);
}

async function tick(run) {
  if (!document.hidden) {
    const live = await ask(`/admin/live${page.cursor ? `?cursor=${encodeURIComponent(page.cursor)}` : ''}`);
    if (run !== page.run) return;
    if (live.ok) take(live.body);
    else if (refused(live)) return;
    else state('bad', 'Not reachable, trying again');
    if (live.ok && shown() === 'limits' && page.ticks % LIMITS_EACH === 0) await page.parts.limits.refresh();
    if (run !== page.run) return;
    page.ticks += 1;
  }
  page.timer = setTimeout(() => tick(run), EACH_MS);
}

function take({ at, metrics, calls, cursor, missed }) {
  page.samples.add({ at, metrics });
  page.cursor = cursor;
  page.parts.calls.add(calls, missed);
  state('good', 'Live');
  const name = shown();
  if (name === 'overview') page.parts.overview.show();
  if (name === 'calls') page.parts.calls.show(true);
}

function shown() {
  const name = location.hash.slice(1);
  return SECTIONS.includes(name) ? name : SECTIONS[0];
}

function showSection() {
  const open = page.parts !== null;
  byId('login').hidden = open;
  byId('sections').hidden = !open;
  byId('leave').hidden = !open;
  for (const name of SECTIONS) byId(name).hidden = !open || name !== shown();
  for (const link of byId('sections').children) {
    if (link.hash.slice(1) === shown()) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (!open) return;
  const title = byId(shown()).querySelector('h1').textContent;
  document.title = `${title} – lmi-gateway console`;
  if (shown() === 'overview') page.parts.overview.show();
  if (shown() === 'calls') page.parts.calls.show();
  if (shown() === 'limits') page.parts.limits.refresh();
}

// A click on a section's link must not scroll past the bar, and the section's beginning is where one reads on.
function onHash() {
  showSection();
  scrollTo(0, 0);
}

const COLOURS = [['', 'Auto', 'as the system has them'], ['light', 'Light', 'light'], ['dark', 'Dark', 'dark']];

function setTheme(name) {
  const [value, word, said] = COLOURS.find(([each]) => each === name) ?? COLOURS[0];
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem(THEME, value);
  say(byId('theme'), `Colours: ${word.toLowerCase()}`);
  byId('theme').setAttribute('aria-label', `Colours: ${said}`);
}

byId('theme').addEventListener('click', () => {
  const at = COLOURS.findIndex(([value]) => value === (localStorage.getItem(THEME) ?? ''));
  setTheme(COLOURS[(at + 1) % COLOURS.length][0]);
});
byId('leave').addEventListener('click', () => leave());
byId('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId('admin-key').value.trim());
  enter();
});
addEventListener('hashchange', onHash);
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  byId('main').focus();
});

setTheme(localStorage.getItem(THEME) ?? '');
if (sessionStorage.getItem(KEY)) enter();
else showSection();
