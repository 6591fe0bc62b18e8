// A chat with a model, by a caller's own key, which stays in this page's memory and goes no further than the gateway.

import { h, say } from './dom.js';
import { bytes, duration } from './numbers.js';
import { curl, python } from './snippets.js';
import { Answer, events } from './stream.js';

const MOST_RAW = 2000;
const EXAMPLE_TOOLS = [{
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}];

export class Playground {
  constructor(section, about, adminKey) {
    this.about = about;
    this.adminKey = adminKey;
    this.images = [];
    this.running = null;
    this.makeFields();
    this.makeAnswer();
    this.form = h('form', { class: 'card fields', onsubmit: (event) => { event.preventDefault(); this.send(); }, oninput: () => this.showSnippets() },
      h('div', { class: 'pair' }, field('Model', this.model), field('API key', this.key)),
      field('System message', this.system), field('Your message', this.user),
      h('div', { class: 'pair' }, field('Temperature', this.temperature), field('Most tokens', this.tokens)),
      field('Images', this.files, this.pictures),
      h('details', {}, h('summary', {}, 'Tools, as JSON'), field('Tools', this.tools),
        h('p', {}, h('button', { type: 'button', onclick: () => this.fillTools() }, 'Put in an example'))),
      h('label', { class: 'check' }, this.stream, 'Stream the answer'),
      this.problem, h('div', { class: 'actions' }, this.submit, this.stop));
    section.append(h('div', { class: 'head' }, h('h1', { id: 'playground-title' }, 'Playground')),
      h('div', { class: 'play' }, this.form, this.result));
    this.showSnippets();
  }

  makeFields() {
    this.model = h('select', {}, this.about.models.map(({ name }) => h('option', { value: name }, name)));
    this.key = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', placeholder: this.about.keys_needed ? 'sk-lmi-…' : 'not needed here' });
    this.system = h('textarea', { rows: 2 });
    this.user = h('textarea', { rows: 4, required: true });
    this.user.value = 'Count to 30.';
    this.temperature = h('input', { type: 'number', min: 0, max: 2, step: 0.1, placeholder: 'the model’s own' });
    this.tokens = h('input', { type: 'number', min: 1, step: 1, placeholder: 'as many as fit' });
    this.files = h('input', { type: 'file', accept: 'image/*', multiple: true, onchange: () => this.readImages() });
    this.pictures = h('div', { class: 'pictures' });
    this.tools = h('textarea', { rows: 5, spellcheck: 'false', class: 'mono' });
    this.stream = h('input', { type: 'checkbox' });
    this.stream.checked = true;
    this.problem = h('p', { class: 'error', role: 'alert' });
    this.submit = h('button', { type: 'submit', class: 'main' }, 'Send');
    this.stop = h('button', { type: 'button', disabled: true, onclick: () => this.running?.abort() }, 'Stop');
  }

  makeAnswer() {
    this.text = h('div', { class: 'answer', role: 'region', 'aria-label': 'Answer', tabindex: 0 });
    this.thoughts = h('div', { class: 'thought' });
    this.calls = h('div');
    this.said = h('p', { class: 'hint', role: 'status' });
    this.facts = h('dl', { class: 'facts' });
    this.raw = h('pre', { class: 'raw', tabindex: 0, 'aria-label': 'Raw events' });
    this.shell = h('pre', { class: 'raw', tabindex: 0, 'aria-label': 'curl' });
    this.script = h('pre', { class: 'raw', tabindex: 0, 'aria-label': 'Python' });
    this.result = h('div', { class: 'card' }, h('h2', {}, 'Answer'), this.thoughts, this.text, this.calls, this.said, this.facts,
      h('details', {}, h('summary', {}, 'Raw events'), this.raw),
      h('details', {}, h('summary', {}, 'As curl'), copied(this.shell), this.shell),
      h('details', {}, h('summary', {}, 'As Python'), copied(this.script), this.script));
  }

  fillTools() {
    this.tools.value = JSON.stringify(EXAMPLE_TOOLS, null, 2);
    this.showSnippets();
  }

  async readImages() {
    const read = (file) => new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
    this.images = await Promise.all([...this.files.files].map(read));
    this.pictures.replaceChildren(...this.images.map((src, at) => h('img', { src, alt: this.files.files[at].name })));
    this.showSnippets();
  }

  // Returns the request's body. Throws an Error that says what is wrong with the fields.
  body() {
    const text = this.user.value;
    const content = this.images.length === 0 ? text
      : [...(text ? [{ type: 'text', text }] : []), ...this.images.map((url) => ({ type: 'image_url', image_url: { url } }))];
    const messages = [...(this.system.value ? [{ role: 'system', content: this.system.value }] : []), { role: 'user', content }];
    const body = { model: this.model.value, messages };
    if (this.temperature.value !== '') body.temperature = Number(this.temperature.value);
    if (this.tokens.value !== '') body.max_tokens = Number(this.tokens.value);
    if (this.tools.value.trim()) {
      try {
        body.tools = JSON.parse(this.tools.value);
      } catch (error) {
        throw new Error(`The tools are not JSON: ${error.message}`);
      }
    }
    if (this.stream.checked) Object.assign(body, { stream: true, stream_options: { include_usage: true } });
    return body;
  }

  showSnippets() {
    let body;
    try {
      body = this.body();
    } catch {
      return;
    }
    say(this.shell, curl(this.about.url, body));
    say(this.script, python(this.about.url, body));
  }

  async send() {
    if (this.running) return;
    let body;
    try {
      body = JSON.stringify(this.body());
    } catch (error) {
      say(this.problem, error.message);
      return;
    }
    say(this.problem, '');
    this.clear();
    this.running = new AbortController();
    this.submit.disabled = true;
    this.stop.disabled = false;
    const times = { began: performance.now(), head: null, first: null, end: null };
    const answer = new Answer();
    let reply = null;
    try {
      const headers = { authorization: `Bearer ${this.adminKey()}`, 'content-type': 'application/json' };
      if (this.key.value) headers['x-console-key'] = this.key.value;
      reply = await fetch('/console/api/chat', { method: 'POST', headers, body, signal: this.running.signal, cache: 'no-store' });
      times.head = performance.now();
      await this.receive(reply, answer, times);
    } catch (error) {
      say(this.problem, error.name === 'AbortError' ? 'Stopped.' : `The answer broke off: ${error.message}`);
    }
    times.end = performance.now();
    this.paint(answer);
    this.tell(reply, answer, times, body.length);
    this.running = null;
    this.submit.disabled = false;
    this.stop.disabled = true;
  }

  async receive(reply, answer, times) {
    if (!(reply.headers.get('content-type') ?? '').startsWith('text/event-stream')) {
      const text = await reply.text();
      this.addRaw(text);
      answer.take(JSON.parse(text));
      times.first = times.head;
      return;
    }
    let due = false;
    for await (const data of events(reply)) {
      this.addRaw(data);
      if (data === '[DONE]') continue;
      if (answer.take(JSON.parse(data)) && times.first === null) times.first = performance.now();
      if (due) continue;
      due = true;
      requestAnimationFrame(() => { due = false; this.paint(answer); });
    }
  }

  clear() {
    this.lines = 0;
    for (const part of [this.text, this.thoughts, this.said, this.raw]) say(part, '');
    this.calls.replaceChildren();
    this.facts.replaceChildren();
  }

  addRaw(text) {
    this.lines += 1;
    if (this.lines <= MOST_RAW) this.raw.append(`${text}\n`);
    else if (this.lines === MOST_RAW + 1) this.raw.append('… more is not shown\n');
  }

  paint(answer) {
    say(this.text, answer.text);
    say(this.thoughts, answer.thoughts);
    this.calls.replaceChildren(...answer.tools.filter(Boolean).map((tool) =>
      h('div', { class: 'tool' }, h('b', {}, tool.name), ' ', h('span', { class: 'soft' }, tool.id), h('pre', {}, tool.arguments))));
    if (answer.error) say(this.problem, `${answer.error.code ?? 'error'}: ${answer.error.message}`);
  }

  tell(reply, answer, times, size) {
    const since = (at) => (at === null ? null : (at - times.began) / 1000);
    const tokens = answer.usage?.completion_tokens;
    const writing = times.first === null ? 0 : (times.end - times.first) / 1000;
    const facts = [
      ['Status', reply && String(reply.status)], ['First token', times.first !== null && answer.error === null && duration(since(times.first))], ['Total', duration(since(times.end))],
      ['Pace', this.stream.checked && tokens > 1 && writing > 0 && `${((tokens - 1) / writing).toFixed(1)} tokens/s`],
      ['Tokens', answer.usage && `${answer.usage.prompt_tokens} of the prompt, ${tokens} of the answer`],
      ['Finished', answer.finish], ['Server timing', reply?.headers.get('server-timing')], ['Request', reply?.headers.get('x-request-id')], ['Sent', bytes(size)],
    ].filter(([, value]) => value);
    this.facts.replaceChildren(...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
    say(this.said, answer.error ? 'The call failed.' : answer.finish ? 'The answer is complete.' : '');
  }
}

let fields = 0;

function field(title, control, ...more) {
  fields += 1;
  control.id = `play-${fields}`;
  return h('div', { class: 'field' }, h('label', { for: control.id }, title), control, more);
}

function copied(source) {
  const button = h('button', { type: 'button', onclick: async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      say(button, 'Copied');
    } catch {
      getSelection().selectAllChildren(source);
      say(button, 'Selected');
    }
    setTimeout(() => say(button, 'Copy'), 2000);
  } }, 'Copy');
  return button;
}
