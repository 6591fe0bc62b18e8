// What every Node script of this folder runs with, as checks.py is for Python: each check runs once for each model, and
// prints one line of JSON. tests/support/sdks.py runs the scripts, and lists the checks they must make.

import assert from "node:assert/strict";

export const URL = process.env.GATEWAY_URL;
export const BASE_URL = `${URL}/v1`;
export const KEY = process.env.GATEWAY_KEY;
export const WRONG_KEY = "sk-lmi-" + "w".repeat(43);
export const MODELS = process.env.GATEWAY_MODELS.split(" ");

// What the local SageMaker says to `hello`.
export const GREETING = "Hello! How can I help you today?";
// Asked of a model that takes its time: 300 tokens, 15 ms apart.
export const COUNTING = "count to 100";
// The engine dies after five tokens.
export const FAILING = "please fail after 5";
export const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
export const PIXEL_SEEN = "I see 1 image: image/png 1x1.";

const checks = [];

// Make a check of a function that takes a model's name.
export function check(name, run) {
  checks.push([name, run]);
}

// The same model at a SageMaker that takes its time.
export function slow(model) {
  return `${model}-slow`;
}

// Fail unless `run` throws an error of class `kind`, whose text, status or code holds each of `said`; return it.
export async function rejects(kind, run, ...said) {
  let caught;
  try {
    await run();
  } catch (error) {
    caught = error;
  }
  assert.ok(caught, `no ${kind.name} was thrown`);
  assert.ok(caught instanceof kind, `${caught?.stack}`);
  const text = `${caught} ${caught.status ?? caught.statusCode} ${caught.code} ${caught.responseBody}`;
  for (const each of said) assert.ok(text.includes(each), `${each} is not in ${text}`);
  return caught;
}

// Make all checks, in the order of the script, and exit with 1 if one fails.
export async function run() {
  let failed = false;
  for (const model of MODELS) {
    for (const [name, make] of checks) {
      const verdict = { check: name, model };
      try {
        await make(model);
      } catch (error) {
        failed = true;
        verdict.error = `${error?.stack ?? error}`;
      }
      console.log(JSON.stringify(verdict));
    }
  }
  process.exitCode = failed ? 1 : 0;
}
