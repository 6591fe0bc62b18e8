// Limits by key, team and model, how much of each is taken, and what keys have used today.

import { h, say, Table } from './dom.js';
import { count, share } from './numbers.js';

const MICRO = 1_000_000;
const WORDS = {
  requests_per_minute: 'requests per minute', tokens_per_minute: 'tokens per minute', concurrent_requests: 'calls at once',
  tokens_per_day: 'tokens per day', money_per_day: 'money per day', money_per_month: 'money per month',
};

export class Limits {
  constructor(section, about, ask) {
    this.ask = ask;
    this.about = about;
    this.filter = h('input', { id: 'limits-name', type: 'search', placeholder: 'key, team or model', oninput: () => this.show() });
    this.notice = h('p', { class: 'notice', role: 'status' });
    this.found = [];
    this.table = new Table({
      caption: 'Limits',
      by: 'used',
      down: true,
      empty: 'No limit is configured, or none that fits.',
      columns: [
        { name: 'name', title: 'Whose', value: (row) => row.name, cell: (row) => [row.name, h('div', { class: 'soft' }, row.model ? `${row.scope}, at ${row.model}` : row.scope)] },
        { name: 'limit', title: 'Limit', value: (row) => row.limit, cell: (row) => [`${amount(row, row.amount)} ${WORDS[row.limit] ?? row.limit}`, ...(row.shadow ? [h('div', { class: 'soft' }, 'shadow: observed only')] : [])] },
        { name: 'used', title: 'Taken now', value: (row) => row.part, cell: (row) => meter(row) },
        { name: 'left', title: 'Left', number: true, value: (row) => row.left, cell: (row) => row.taken === null ? '?' : amount(row, row.left) },
      ],
    });
    this.usage = new Table({
      caption: 'Used today (UTC), by key',
      by: 'requests',
      down: true,
      empty: 'Nothing has been used today.',
      columns: [
        { name: 'key', title: 'Key', value: (row) => row.key },
        { name: 'requests', title: 'Requests', number: true, value: (row) => row.requests, cell: (row) => count(row.requests) },
        { name: 'prompt', title: 'Prompt tokens', number: true, value: (row) => row.prompt_tokens, cell: (row) => count(row.prompt_tokens) },
        { name: 'completion', title: 'Answer tokens', number: true, value: (row) => row.completion_tokens, cell: (row) => count(row.completion_tokens) },
        { name: 'money', title: 'Money', number: true, value: (row) => row.money, cell: (row) => String(row.money) },
      ],
    });
    section.append(
      h('div', { class: 'head' }, h('h1', { id: 'limits-title' }, 'Limits and usage'),
        h('div', { class: 'right' }, h('label', { for: 'limits-name' }, 'Show'), this.filter)),
      this.notice,
      h('div', { class: 'columns' }, h('div', { class: 'card' }, this.table.element), h('div', { class: 'card' }, this.usage.element)));
  }

  async refresh() {
    const today = new Date().toISOString().slice(0, 10);
    // Workers that count by themselves keep books that nobody can add up.
    const apart = this.about.limits_store === 'memory' && this.about.workers > 1;
    const [limits, usage] = await Promise.all([
      this.ask('/admin/limits'), apart ? { ok: false, message: '' } : this.ask(`/admin/usage?from=${today}&to=${today}&group_by=key`),
    ]);
    const notes = [];
    if (limits.ok) {
      this.found = limits.body.limits;
      if (limits.body.problem) notes.push(limits.body.problem);
      if (limits.body.total > this.found.length) notes.push(`Only the first ${count(this.found.length)} of ${count(limits.body.total)} limits are shown.`);
      if (limits.body.tokens) notes.push('Callers with tokens of an identity provider have limits by their plan, which are not listed here.');
    } else notes.push(limits.message);
    this.usage.element.hidden = !usage.ok;
    if (usage.ok) this.usage.show(usage.body.usage.map((row) => ({ ...row, id: row.key, stamp: JSON.stringify(row) })));
    else if (apart) notes.push('What keys have used today cannot be told either.');
    else notes.push(usage.message);
    say(this.notice, notes.join(' '));
    this.show();
  }

  show() {
    const wanted = this.filter.value.trim().toLowerCase();
    const fits = (row) => !wanted || row.name.toLowerCase().includes(wanted) || (row.model ?? '').toLowerCase().includes(wanted);
    this.table.show(this.found.filter(fits).map((row) => {
      const taken = row.taken === null ? null : row.taken + row.reserved;
      return {
        ...row,
        id: [row.scope, row.name, row.model, row.limit, row.shadow].join('\u0000'),
        stamp: `${row.taken} ${row.reserved} ${row.amount}`,
        part: taken === null ? null : taken / row.most,
        left: taken === null ? null : Math.max(0, row.most - taken),
      };
    }));
  }
}

function meter(row) {
  if (row.taken === null) return h('span', { class: 'soft' }, 'cannot be told');
  const part = Math.min(1, row.part);
  const fill = h('div', { class: `fill ${part >= 1 ? 'bad' : part >= 0.8 ? 'warn' : ''}` });
  fill.style.width = `${(part * 100).toFixed(1)}%`;
  const words = `${amount(row, row.taken + row.reserved)} of ${amount(row, row.most)} (${share(row.taken + row.reserved, row.most)})`;
  const reserved = row.reserved ? `, ${amount(row, row.reserved)} of it reserved` : '';
  return h('div', {}, words, h('span', { class: 'soft' }, reserved),
    h('div', { class: 'meter', role: 'meter', 'aria-valuemin': 0, 'aria-valuemax': row.most, 'aria-valuenow': row.taken + row.reserved, 'aria-valuetext': words, 'aria-label': `${row.name}, ${WORDS[row.limit] ?? row.limit}` }, fill));
}

function amount(row, value) {
  return row.limit.startsWith('money') ? (value / MICRO).toFixed(2) : count(value);
}
