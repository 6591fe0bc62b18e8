// The last calls: who, what, how it ended and where the time went. Nothing of prompts and answers is known here.

import { h, say, Table } from './dom.js';
import { bytes, count, duration } from './numbers.js';

const MOST = 500;
const FILTERS = [['model', 'Model'], ['code', 'Code'], ['key', 'Key']];

export class Calls {
  constructor(section) {
    this.calls = [];
    this.seen = 0;
    this.missed = 0;
    this.paused = false;
    this.filters = FILTERS.map(([name, title]) => ({
      name, select: h('select', { id: `calls-${name}`, onchange: () => this.show() }, h('option', { value: '' }, 'All')), title,
    }));
    this.pause = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.toggle() }, 'Hold');
    this.note = h('p', { class: 'hint', role: 'status' });
    this.table = new Table({
      caption: 'Recent calls',
      by: 'time',
      down: true,
      empty: 'No call has ended yet, or none that fits.',
      columns: [
        { name: 'time', title: 'Ended', value: (row) => row.time, kind: 'nowrap', number: false,
          cell: (row) => h('button', { type: 'button', class: 'link', 'aria-haspopup': 'dialog', 'aria-label': `Details of the call that ended at ${clock(row.time)}`,
            onclick: () => this.details(row.call) }, clock(row.time)) },
        { name: 'model', title: 'Model', value: (row) => row.call.model, cell: (row) => row.call.model || '–' },
        { name: 'surface', title: 'Surface', value: (row) => row.call.surface, cell: (row) => `${row.call.surface}${row.call.stream ? ', streamed' : ''}` },
        { name: 'code', title: 'Code', value: (row) => row.call.code, cell: (row) => codeOf(row.call) },
        { name: 'key', title: 'Key', value: (row) => row.call.key, cell: (row) => row.call.key || '–' },
        { name: 'first', title: 'First token', number: true, value: (row) => row.call.first_token_ms, cell: (row) => ms(row.call.first_token_ms) },
        { name: 'total', title: 'Total', number: true, value: (row) => row.call.total_ms, cell: (row) => ms(row.call.total_ms) },
        { name: 'tokens', title: 'Tokens', number: true, value: (row) => row.call.completion_tokens,
          cell: (row) => row.call.prompt_tokens === undefined ? '–' : `${count(row.call.prompt_tokens)} → ${count(row.call.completion_tokens)}` },
        { name: 'attempts', title: 'Attempts', number: true, value: (row) => row.call.attempts },
      ],
    });
    this.dialog = h('dialog', { 'aria-labelledby': 'call-title' });
    section.append(
      h('div', { class: 'head' }, h('h1', { id: 'calls-title' }, 'Calls'), h('div', { class: 'right' },
        this.filters.map(({ name, title, select }) => [h('label', { for: `calls-${name}` }, title), select]).flat(), this.pause)),
      this.note, h('div', { class: 'card' }, this.table.element), this.dialog);
  }

  // Takes the calls that have ended since, oldest first.
  add(calls, missed) {
    this.missed += missed;
    for (const call of calls) this.calls.push({ id: (this.seen += 1), stamp: '', time: call.time, call });
    if (this.calls.length > MOST) this.calls.splice(0, this.calls.length - MOST);
  }

  toggle() {
    this.paused = !this.paused;
    this.pause.setAttribute('aria-pressed', String(this.paused));
    say(this.pause, this.paused ? 'Go on' : 'Hold');
    if (!this.paused) this.show();
  }

  show(tick = false) {
    if (tick && this.paused) return;
    for (const { name, select } of this.filters) this.offer(name, select);
    const rows = this.calls.filter(({ call }) => this.filters.every(({ name, select }) => !select.value || call[name] === select.value));
    this.table.show(rows.slice(-200));
    say(this.note, this.missed ? `${count(this.missed)} calls came and went between two looks and are not listed.` : '');
  }

  offer(name, select) {
    const values = new Set(this.calls.map(({ call }) => call[name]).filter(Boolean));
    const known = new Set([...select.options].map(({ value }) => value));
    for (const value of [...values].sort()) if (!known.has(value)) select.append(h('option', { value }, value));
  }

  details(call) {
    const facts = [
      ['Request', call.request_id], ['Ended', call.time], ['Model', call.model], ['Deployment', call.deployment], ['Key', call.key], ['Team', call.team],
      ['Code', call.code], ['Detail', call.detail], ['Status', call.status || 'none: the caller left'], ['Stream', call.ending],
      ['SageMaker’s status', call.upstream_status], ['Tokens', call.prompt_tokens === undefined ? '' : `${call.prompt_tokens} of the prompt${call.cached_tokens ? `, ${call.cached_tokens} of them cached` : ''}; ${call.completion_tokens} of the answer`],
      ['Sizes', `${bytes(call.bytes_in ?? 0)} in${call.bytes_out ? `, ${bytes(call.bytes_out)} out` : ''}`], ['Cost', call.money], ['Trace', call.trace_id],
    ].filter(([, value]) => value !== undefined && value !== null && value !== '');
    const close = h('button', { type: 'button', class: 'main', onclick: () => this.dialog.close() }, 'Close');
    this.dialog.replaceChildren(
      h('h2', { id: 'call-title' }, `${call.model || 'No model'}, ${ms(call.total_ms)}`),
      timeline(call),
      h('dl', { class: 'facts' }, facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))])),
      ...(call.tries ? [tries(call.tries)] : []), close);
    this.dialog.showModal();
    close.focus();
  }
}

// Where the time of a call went, in its order: [name, milliseconds].
export function phases(call) {
  const queue = call.queue_ms ?? 0;
  const own = call.gateway_ms ?? 0;
  const upstream = call.upstream_ms ?? 0;
  const head = Math.min(call.sagemaker_ms ?? 0, upstream);
  const answer = call.first_token_ms === undefined ? 0 : Math.max(0, call.total_ms - call.first_token_ms);
  const rest = Math.max(0, call.total_ms - queue - own - upstream - answer);
  const waiting = call.stream ? 'until the first token' : 'the model’s whole answer';
  return [
    ['waiting in line', queue], ['the gateway', own], ['until SageMaker answered', head],
    [head ? waiting : `SageMaker, ${waiting}`, upstream - head], ['the answer, streamed', answer], ['other', rest < 0.5 ? 0 : rest],
  ];
}

function timeline(call) {
  const shown = phases(call).map(([name, time], at) => ({ name, time, at })).filter(({ time }) => time > 0);
  const bar = h('div', { class: 'timeline', role: 'img', 'aria-label': shown.map(({ name, time }) => `${name} ${ms(time)}`).join(', ') });
  for (const { name, time, at } of shown) {
    const part = h('span', { class: `phase-${at + 1}`, title: `${name}: ${ms(time)}` });
    part.style.flexGrow = String(time);
    bar.append(part);
  }
  return h('div', {}, bar, h('ul', { class: 'phases' },
    shown.map(({ name, time, at }) => h('li', {}, h('i', { class: `phase-${at + 1}` }), `${name} `, h('b', {}, ms(time))))));
}

function tries(all) {
  return h('div', { class: 'scroll' }, h('table', {}, h('caption', {}, 'Attempts'),
    h('thead', {}, h('tr', {}, ['Deployment', 'Code', 'Status', 'Time'].map((title) => h('th', { scope: 'col' }, title)))),
    h('tbody', {}, all.map((one) => h('tr', {}, h('td', {}, one.deployment), h('td', {}, h('code', {}, one.code)), h('td', {}, String(one.status ?? '–')), h('td', {}, ms(one.ms)))))));
}

function codeOf(call) {
  const level = call.code === 'ok' ? 'good' : call.level === 'error' ? 'bad' : call.code === 'cancelled' ? 'none' : 'warn';
  return h('span', { class: `${level} badge` }, call.code);
}

function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleTimeString('en-GB');
}

function ms(value) {
  return value === undefined || value === null ? '–' : duration(value / 1000);
}

