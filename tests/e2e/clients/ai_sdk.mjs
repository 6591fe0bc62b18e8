// Vercel's AI SDK: @ai-sdk/openai-compatible, and @ai-sdk/openai with its chat() and completion().

import assert from "node:assert/strict";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { BASE_URL, COUNTING, FAILING, GREETING, KEY, PIXEL, PIXEL_SEEN, WRONG_KEY } from "./checks.mjs";
import { check, rejects, run, slow } from "./checks.mjs";

const compatible = (apiKey = KEY) =>
  createOpenAICompatible({ name: "lmi-gateway", baseURL: BASE_URL, apiKey, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: KEY });

// Both providers, as a check is made with each.
const PROVIDERS = [
  ["openai-compatible", (model) => compatible()(model)],
  ["openai", (model) => openai.chat(model)],
];
const asked = (model, prompt, fields = {}) => ({ model, prompt, temperature: 0, maxRetries: 0, ...fields });
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const quiet = { onError: () => {} };

const called = [];
const tools = {
  get_weather: tool({
    description: "Say what the weather is like in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => {
      called.push(city);
      return `sunny in ${city}`;
    },
  }),
  get_time: tool({
    description: "Say what time it is in a time zone.",
    inputSchema: z.object({ zone: z.string() }),
    execute: ({ zone }) => {
      called.push(zone);
      return `noon in ${zone}`;
    },
  }),
};

for (const [name, provider] of PROVIDERS) {
  check(`${name}: generateText`, async (model) => {
    const result = await generateText(asked(provider(model), "hello", { system: "Be brief." }));
    assert.equal(result.text, GREETING);
    assert.equal(result.finishReason, "stop");
    assert.ok(result.usage.outputTokens > 5);
    assert.equal(result.response.modelId, model);
  });

  check(`${name}: streamText`, async (model) => {
    const result = streamText(asked(provider(model), "hello"));
    const pieces = [];
    for await (const piece of result.textStream) pieces.push(piece);
    assert.equal(pieces.join(""), GREETING);
    assert.ok(pieces.length > 5);
    assert.equal(await result.finishReason, "stop");
  });

  check(`${name}: an image`, async (model) => {
    const content = [
      { type: "text", text: "what is it?" },
      { type: "image", image: PIXEL },
    ];
    const { text } = await generateText({ model: provider(model), messages: [{ role: "user", content }] });
    assert.ok(text.startsWith(PIXEL_SEEN));
  });

  check(`${name}: limits and stops`, async (model) => {
    const cut = await generateText(asked(provider(model), "count to 9", { maxOutputTokens: 4 }));
    assert.equal(cut.finishReason, "length");
    const stopped = await generateText(asked(provider(model), "count to 9", { stopSequences: ["3"] }));
    assert.equal(stopped.text, "1, 2, ");
  });

  check(`${name}: tools`, async (model) => {
    called.length = 0;
    const result = await generateText(asked(provider(model), "weather in Rome?", { tools, stopWhen: stepCountIs(3) }));
    assert.ok(result.text.includes("sunny in Rome"), result.text);
    assert.deepEqual(called, ["Rome"]);
    assert.equal(result.steps.length, 2);
  });

  check(`${name}: streamed tools`, async (model) => {
    called.length = 0;
    const result = streamText(asked(provider(model), "both in Rome", { tools, stopWhen: stepCountIs(3) }));
    assert.ok((await result.text).includes("sunny in Rome"));
    assert.deepEqual(called, ["Rome", "Europe/Paris"]);
  });

  check(`${name}: a tool that is required`, async (model) => {
    const { execute: _, ...unexecuted } = tools.get_weather;
    const fields = { tools: { get_weather: unexecuted }, toolChoice: "required" };
    const result = await generateText(asked(provider(model), "hello in Rome", fields));
    assert.deepEqual(result.toolCalls.map((call) => [call.toolName, call.input]), [["get_weather", { city: "Rome" }]]);
  });

  check(`${name}: generateObject`, async (model) => {
    const { object } = await generateObject(asked(provider(model), "how is it in Rome?", { schema }));
    assert.deepEqual(object, { city: "Rome", degrees: 21 });
  });

  check(`${name}: streamObject`, async (model) => {
    const result = streamObject(asked(provider(model), "how is it in Rome?", { schema }));
    let parts = 0;
    for await (const _ of result.partialObjectStream) parts += 1;
    assert.ok(parts > 1);
    assert.deepEqual(await result.object, { city: "Rome", degrees: 21 });
  });

  check(`${name}: Output.object`, async (model) => {
    const fields = { output: Output.object({ schema }) };
    const { output } = await generateText(asked(provider(model), "how is it in Rome?", fields));
    assert.deepEqual(output, { city: "Rome", degrees: 21 });
  });

  check(`${name}: a wrong model`, async (model) => {
    const call = () => generateText(asked(provider(`${model}-of-nobody`), "hello"));
    const error = await rejects(APICallError, call, "404", "model_not_found");
    assert.ok(error.message.includes("does not exist"), error.message);
    assert.equal(error.isRetryable, false);
  });

  check(`${name}: a bad parameter`, (model) =>
    rejects(APICallError, () => generateText(asked(provider(model), "hello", { temperature: 3 })), "400", "temperature"));

  check(`${name}: a stream that breaks`, async (model) => {
    const errors = [];
    let text = "";
    for await (const part of streamText(asked(provider(model), FAILING, quiet)).fullStream) {
      if (part.type === "text-delta") text += part.text;
      if (part.type === "error") errors.push(JSON.stringify(part.error) + part.error?.message);
    }
    assert.ok(text.startsWith('You wrote "'));
    assert.equal(errors.length, 1);
    assert.ok(errors[0].includes("The model"), errors[0]);
  });

  check(`${name}: aborting`, async (model) => {
    const controller = new AbortController();
    const fields = { abortSignal: controller.signal, ...quiet };
    for await (const _ of streamText(asked(provider(slow(model)), COUNTING, fields)).textStream) controller.abort();
  });
}

check("completion models", async (model) => {
  for (const completion of [compatible().completionModel(model), openai.completion(model)]) {
    assert.equal((await generateText(asked(completion, "repeat: words"))).text.includes("words"), true);
  }
});

check("a wrong key", async (model) => {
  const error = await rejects(APICallError, () => generateText(asked(compatible(WRONG_KEY)(model), "hello")), "401");
  assert.ok(error.message.includes("Incorrect API key"), error.message);
});

await run();
