// How it goes: tiles, charts, deployments with their health, errors by code.

import { Chart } from './charts.js';
import { h, say, Table } from './dom.js';
import { health, isFault } from './health.js';
import { count, duration, perSecond, share } from './numbers.js';
import { growth, level, quantile, spread, total } from './series.js';

const RATE_S = 5;
const QUANTILE_S = 15;

export class Overview {
  constructor(section, about, samples) {
    this.about = about;
    this.samples = samples;
    this.model = h('select', { id: 'overview-model', onchange: () => this.show() },
      h('option', { value: '' }, 'All models'), about.models.map(({ name }) => h('option', { value: name }, name)));
    this.tiles = new Map();
    const charts = this.makeCharts();
    this.deployments = this.makeDeployments();
    this.errors = new Table({
      caption: 'Calls by code, last 5 minutes',
      by: 'n',
      down: true,
      empty: 'No call has ended in the last 5 minutes.',
      columns: [
        { name: 'code', title: 'Code', value: (row) => row.code, cell: (row) => h('code', {}, row.code) },
        { name: 'n', title: 'Calls', number: true, value: (row) => row.n, cell: (row) => count(row.n) },
        { name: 'share', title: 'Share', number: true, value: (row) => row.n, cell: (row) => share(row.n, row.all) },
        { name: 'ever', title: 'Since the start', number: true, value: (row) => row.ever, cell: (row) => count(row.ever) },
      ],
    });
    section.append(
      h('div', { class: 'head' }, h('h1', { id: 'overview-title' }, 'Overview'),
        h('div', { class: 'right' }, h('label', { for: 'overview-model' }, 'Model'), this.model)),
      h('dl', { class: 'tiles' }, this.makeTiles()),
      h('div', { class: 'charts' }, charts.map(({ chart }) => chart.element)),
      h('div', { class: 'columns' },
        h('div', { class: 'card' }, this.deployments.element), h('div', { class: 'card' }, this.errors.element)));
    this.charts = charts;
  }

  makeTiles() {
    const names = [
      ['rate', 'Calls per second'], ['failed', 'Failed calls'], ['flight', 'In flight'], ['first', 'First token, p50'],
      ['tokens', 'Tokens per second'], ['credentials', 'AWS credentials'], ['workers', 'Workers'], ['limits', 'Limits counted in'],
    ];
    return names.map(([name, title]) => {
      const value = h('span', {}, '–');
      const under = h('span', { class: 'under' });
      this.tiles.set(name, { value, under });
      return h('div', { class: 'tile card', 'data-tile': name }, h('dt', {}, title), h('dd', {}, value, under));
    });
  }

  makeCharts() {
    const quantiles = (name) => [0.5, 0.95].map((q) => (older, newer) => quantile(q, spread(older, newer, name, this.where())));
    const tokens = (kind) => (older, newer, s) => total(growth(older, newer, 'tokens', [], { ...this.where(), kind })) / s;
    const calls = (good) => (older, newer, s) => {
      let sum = 0;
      for (const [code, n] of growth(older, newer, 'calls', ['code'], this.where())) if ((code === 'ok') === good) sum += n;
      return sum / s;
    };
    return [
      { chart: new Chart('Calls per second', ['ok', 'other'], perSecond), tell: [calls(true), calls(false)], over: RATE_S },
      { chart: new Chart('Time to first token', ['p50', 'p95'], duration), tell: quantiles('first_token_seconds'), over: QUANTILE_S },
      { chart: new Chart('Between tokens', ['p50', 'p95'], duration), tell: quantiles('inter_token_seconds'), over: QUANTILE_S, needs: 'inter_token_seconds' },
      { chart: new Chart('Whole calls', ['p50', 'p95'], duration), tell: quantiles('call_seconds'), over: QUANTILE_S },
      { chart: new Chart('Gateway’s share', ['p50', 'p95'], duration), over: QUANTILE_S,
        tell: [0.5, 0.95].map((q) => (older, newer) => quantile(q, spread(older, newer, 'overhead_seconds'))) },
      { chart: new Chart('Tokens per second', ['answers', 'prompts'], perSecond), tell: [tokens('completion'), tokens('prompt')], over: RATE_S },
      { chart: new Chart('Calls now', ['in flight', 'waiting'], count),
        tell: [(_, newer) => level(newer, 'in_flight'), (_, newer) => level(newer, 'waiting', this.where()) ?? 0], over: 0 },
    ];
  }

  makeDeployments() {
    return new Table({
      caption: 'Deployments',
      by: 'model',
      empty: 'There are no deployments.',
      columns: [
        { name: 'model', title: 'Model', value: (row) => row.model },
        { name: 'deployment', title: 'Deployment', value: (row) => row.name,
          cell: (row) => [row.name, h('div', { class: 'soft nowrap' }, `${row.container} ${row.version} · ${row.region}${row.weight === 0 ? ' · weight 0' : ''}`)] },
        { name: 'health', title: 'Health', value: (row) => ['bad', 'warn', 'good', 'none'].indexOf(row.health.level),
          cell: (row) => [h('span', { class: `${row.health.level} badge` }, row.health.word), h('div', { class: 'soft' }, row.health.reason)] },
        { name: 'rate', title: 'Attempts/min', number: true, value: (row) => row.rate, cell: (row) => [count(row.rate), ...(row.flight === null ? [] : [h('div', { class: 'soft' }, `${count(row.flight)} in flight`)])] },
        { name: 'credentials', title: 'Credentials', value: (row) => row.credentials, cell: (row) => row.credentials },
      ],
    });
  }

  where() {
    return this.model.value ? { model: this.model.value } : {};
  }

  show() {
    const now = this.samples.newest;
    if (!now) return;
    this.showTiles(now);
    for (const { chart, tell, over, needs } of this.charts) {
      chart.element.hidden = needs !== undefined && !now.metrics[needs];
      if (!chart.element.hidden) chart.show(tell.map((one) => this.samples.points(one, over)), now.at);
    }
    this.showDeployments(now);
    this.showErrors(now);
  }

  tile(name, value, under = '') {
    const tile = this.tiles.get(name);
    say(tile.value, value);
    say(tile.under, under);
  }

  showTiles(now) {
    const where = this.where();
    const older = this.samples.before(now, RATE_S);
    const minutes = this.samples.before(now, 300);
    if (older && minutes) {
      const seconds = now.at - older.at;
      this.tile('rate', perSecond(total(growth(older, now, 'calls', [], where)) / seconds));
      const codes = growth(minutes, now, 'calls', ['code'], where);
      const failed = [...codes].reduce((n, [code, each]) => n + (isFault(code) ? each : 0), 0);
      this.tile('failed', share(failed, total(codes)), `${count(failed)} of ${count(total(codes))}, 5 min`);
      const first = spread(minutes, now, 'first_token_seconds', where);
      this.tile('first', duration(quantile(0.5, first)), `p95 ${duration(quantile(0.95, first))}, 5 min`);
      this.tile('tokens', perSecond(total(growth(older, now, 'tokens', [], { ...where, kind: 'completion' })) / seconds), 'of answers');
    }
    const waiting = level(now, 'waiting', where) ?? 0;
    this.tile('flight', count(level(now, 'in_flight')), waiting ? `${count(waiting)} waiting` : 'all models');
    const bad = (now.metrics.credentials?.series ?? []).filter(([, valid]) => !valid).map(([[identity]]) => identity);
    const known = now.metrics.credentials !== undefined;
    this.tile('credentials', !known ? '–' : bad.length ? 'Missing' : 'Valid', bad.join(', '));
    const workers = level(now, 'workers');
    const restarts = level(now, 'worker_restarts');
    this.tile('workers', count(workers ?? this.about.workers),
      workers !== null && workers < this.about.workers ? `of ${this.about.workers}` : restarts ? `${restarts} restarted` : '');
    const up = level(now, 'redis_up');
    const redis = this.about.limits_store === 'redis';
    const decided = minutes ? growth(minutes, now, 'limit_decisions', ['decision']).get('refused') ?? 0 : 0;
    const refused = decided ? `${count(decided)} calls refused, 5 min` : '';
    this.tile('limits', !redis ? 'Memory' : up === null ? '–' : up ? 'Redis' : 'Alone',
      redis && up === 0 ? `Redis is away, policy ${this.about.redis_policy}` : !redis && this.about.workers > 1 ? 'each worker by itself' : refused);
  }

  showDeployments(now) {
    const minute = this.samples.before(now, 60);
    const valid = new Map((now.metrics.credentials?.series ?? []).map(([[identity], value]) => [identity, value]));
    const models = this.about.models.filter(({ name }) => !this.model.value || name === this.model.value);
    this.deployments.show(models.flatMap((model) => model.deployments.map((deployment) => {
      const state = valid.get(deployment.identity);
      const attempts = minute ? total(growth(minute, now, 'attempts', [], { model: model.name, deployment: deployment.name })) : null;
      const row = {
        ...deployment,
        id: `${model.name}\u0000${deployment.name}`,
        model: model.name,
        health: health(this.samples, model.name, deployment.name),
        rate: attempts === null ? null : (attempts / (now.at - minute.at)) * 60,
        flight: level(now, 'attempts_in_flight', { model: model.name, deployment: deployment.name }),
        credentials: state === undefined ? '–' : state ? 'valid' : `missing (${deployment.identity})`,
      };
      row.stamp = JSON.stringify([row.health, row.rate, row.flight, row.credentials]);
      return row;
    })));
  }

  showErrors(now) {
    const minutes = this.samples.before(now, 300);
    if (!minutes) return;
    const lately = growth(minutes, now, 'calls', ['code'], this.where());
    const ever = growth(null, now, 'calls', ['code'], this.where());
    const all = total(lately);
    this.errors.show([...lately].filter(([, n]) => n > 0).map(([code, n]) => ({
      id: code, stamp: `${n} ${all} ${ever.get(code)}`, code, n, all, ever: ever.get(code),
    })));
  }
}
