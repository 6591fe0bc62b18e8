// OpenAI's client for Node. OPENAI_PACKAGE names the installed package, as more than one major version is there.

import assert from "node:assert/strict";

import { BASE_URL, COUNTING, FAILING, GREETING, KEY, MODELS, PIXEL, PIXEL_SEEN, WRONG_KEY } from "./checks.mjs";
import { check, rejects, run, slow } from "./checks.mjs";

const { default: OpenAI } = await import(process.env.OPENAI_PACKAGE);
const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0 });

const user = (content) => [{ role: "user", content }];
const chat = (model, content, fields = {}) =>
  client.chat.completions.create({ model, messages: user(content), temperature: 0, ...fields });
const tool = (name, argument) => ({
  type: "function",
  function: {
    name,
    parameters: { type: "object", properties: { [argument]: { type: "string" } }, required: [argument] },
  },
});
const TOOLS = [tool("get_weather", "city"), tool("get_time", "zone")];
const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

check("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  for (const model of MODELS) assert.ok(names.includes(model));
});

check("chat", async (model) => {
  const reply = await chat(model, "hello");
  assert.equal(reply.choices[0].message.content, GREETING);
  assert.equal(reply.choices[0].finish_reason, "stop");
  assert.equal(reply.model, model);
  assert.ok(reply.usage.completion_tokens > 5);
});

check("stream", async (model) => {
  let text = "";
  let usage;
  let chunks = 0;
  for await (const chunk of await chat(model, "hello", { stream: true, stream_options: { include_usage: true } })) {
    chunks += 1;
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, GREETING);
  assert.ok(chunks > 5);
  assert.ok(usage.completion_tokens > 5);
});

check("characters of several bytes", async (model) => {
  const text = await textOf(await chat(model, "emoji", { stream: true }));
  assert.equal(text, "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧.");
});

check("stream helper", async (model) => {
  const stream = client.chat.completions.stream({ model, messages: user("hello") });
  const deltas = [];
  stream.on("content", (delta) => deltas.push(delta));
  assert.equal(await stream.finalContent(), GREETING);
  assert.ok(deltas.length > 5);
});

check("limits, stops and several choices", async (model) => {
  const reply = await chat(model, "count to 9", { n: 2, temperature: 1, max_completion_tokens: 4 });
  assert.deepEqual(reply.choices.map((choice) => choice.finish_reason), ["length", "length"]);
  assert.equal((await chat(model, "count to 9", { stop: ["3"] })).choices[0].message.content, "1, 2, ");
});

check("image", async (model) => {
  const parts = [{ type: "text", text: "what is it?" }, { type: "image_url", image_url: { url: PIXEL } }];
  assert.ok((await chat(model, parts)).choices[0].message.content.startsWith(PIXEL_SEEN));
});

check("completion", async (model) => {
  const asked = { model, prompt: "count to 4", temperature: 0 };
  assert.equal((await client.completions.create(asked)).choices[0].text, "1, 2, 3, 4");
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0]?.text ?? "";
  }
  assert.equal(text, "1, 2, 3, 4");
});

check("tools", async (model) => {
  const { message, finish_reason } = (await chat(model, "weather in Rome?", { tools: TOOLS })).choices[0];
  assert.equal(finish_reason, "tool_calls");
  assert.deepEqual(message.tool_calls.map((call) => call.function), [
    { name: "get_weather", arguments: '{"city": "Rome"}' },
  ]);
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny in Rome" };
  const messages = [...user("weather in Rome?"), message, result];
  const answer = await client.chat.completions.create({ model, messages, tools: TOOLS });
  assert.ok(answer.choices[0].message.content.includes("sunny in Rome"));
});

check("streamed tools", async (model) => {
  const calls = [];
  for await (const chunk of await chat(model, "both in Rome", { tools: TOOLS, stream: true })) {
    for (const part of chunk.choices[0]?.delta.tool_calls ?? []) {
      calls[part.index] ??= { id: part.id, name: part.function.name, arguments: "" };
      calls[part.index].arguments += part.function?.arguments ?? "";
    }
  }
  assert.deepEqual(calls.map((call) => [call.name, call.arguments]), [
    ["get_weather", '{"city": "Rome"}'],
    ["get_time", '{"zone": "Europe/Paris"}'],
  ]);
  assert.equal(new Set(calls.map((call) => call.id)).size, 2);
});

check("tools run by the client", async (model) => {
  const cities = [];
  const runner = client.chat.completions.runTools({
    model,
    messages: user("weather in Rome?"),
    temperature: 0,
    stream: true,
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "Say what the weather is like in a city.",
          parameters: TOOLS[0].function.parameters,
          parse: JSON.parse,
          function: ({ city }) => {
            cities.push(city);
            return `sunny in ${city}`;
          },
        },
      },
    ],
  });
  assert.ok((await runner.finalContent()).includes("sunny in Rome"));
  assert.deepEqual(cities, ["Rome"]);
});

check("structured", async (model) => {
  const response_format = { type: "json_schema", json_schema: { name: "weather", schema: SCHEMA, strict: true } };
  const asked = { model, messages: user("how is it in Rome?"), temperature: 0, response_format };
  const reply = await client.chat.completions.parse(asked);
  assert.deepEqual(JSON.parse(reply.choices[0].message.content), { city: "Rome", degrees: 21 });
});

check("wrong key", async (model) => {
  const stranger = new OpenAI({ baseURL: BASE_URL, apiKey: WRONG_KEY, maxRetries: 0 });
  const call = () => stranger.chat.completions.create({ model, messages: user("hello") });
  await rejects(OpenAI.AuthenticationError, call, "401", "invalid_api_key");
});

check("wrong model", (model) =>
  rejects(OpenAI.NotFoundError, () => chat(`${model}-of-nobody`, "hello"), "404", "model_not_found"));

check("bad parameter", async (model) => {
  const error = await rejects(OpenAI.BadRequestError, () => chat(model, "hello", { temperature: 3 }), "400");
  assert.equal(error.param, "temperature");
});

check("too long a prompt", (model) =>
  rejects(OpenAI.BadRequestError, () => chat(model, "word ".repeat(9000)), "context"));

check("a stream that breaks", async (model) => {
  let text = "";
  const read = async () => {
    for await (const chunk of await chat(model, FAILING, { stream: true })) text += chunk.choices[0].delta.content ?? "";
  };
  await rejects(OpenAI.APIError, read, "The model");
  assert.ok(text.startsWith('You wrote "'));
});

check("leaving a loop", async (model) => {
  for await (const chunk of await chat(slow(model), COUNTING, { stream: true })) {
    if (chunk.choices[0]?.delta.content) break;
  }
});

check("aborting", async (model) => {
  const controller = new AbortController();
  const asked = { model: slow(model), messages: user(COUNTING), stream: true };
  const stream = await client.chat.completions.create(asked, { signal: controller.signal });
  for await (const _ of stream) controller.abort();
});

await run();
