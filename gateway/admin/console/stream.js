// A chat's answer as it arrives: server-sent events taken apart, and their deltas put together.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

// Yields the data of each event of a fetch's answer, as soon as it is whole.
export async function* events(reply) {
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const parts = rest.split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).replace(/^ /, ''));
        if (data.length) yield data.join('\n');
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What the first choice of an answer has said so far.
export class Answer {
  constructor() {
    this.text = '';
    this.thoughts = '';
    this.tools = [];
    this.usage = null;
    this.finish = null;
    this.error = null;
  }

  // Takes a chunk or a whole completion; says whether something of the answer was in it.
  take(body) {
    if (body.error) this.error = body.error;
    if (body.usage) this.usage = body.usage;
    const choice = body.choices?.find(({ index }) => (index ?? 0) === 0);
    if (!choice) return false;
    if (choice.finish_reason) this.finish = choice.finish_reason;
    const part = choice.delta ?? choice.message ?? {};
    const thought = part.reasoning_content ?? part.reasoning ?? '';
    this.thoughts += thought;
    this.text += part.content ?? '';
    for (const call of part.tool_calls ?? []) {
      const at = call.index ?? this.tools.length;
      const tool = (this.tools[at] ??= { id: '', name: '', arguments: '' });
      tool.id ||= call.id ?? '';
      tool.name += call.function?.name ?? '';
      tool.arguments += call.function?.arguments ?? '';
    }
    return Boolean(thought || part.content || part.tool_calls?.length);
  }
}
