// The same call from a shell and from Python. The key is never in it, and images are shortened.

const SHORTEST_IMAGE = 60;

function shown(body) {
  return JSON.parse(JSON.stringify(body), (_, value) =>
    typeof value === 'string' && value.startsWith('data:') && value.length > SHORTEST_IMAGE ? `${value.slice(0, value.indexOf(',') + 1)}…` : value);
}

export function curl(url, body) {
  const text = JSON.stringify(shown(body), null, 2).replaceAll("'", "'\\''");
  return `curl ${body.stream ? '-N ' : ''}${url}/v1/chat/completions \\\n  -H "Authorization: Bearer $API_KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d '${text}'`;
}

export function python(url, body) {
  const given = Object.entries(shown(body)).map(([name, value]) => `    ${name}=${literal(value, 4)},`).join('\n');
  const open = `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${literal(`${url}/v1`, 0)}, api_key=os.environ["API_KEY"])\n`;
  if (!body.stream) return `${open}answer = client.chat.completions.create(\n${given}\n)\nprint(answer.choices[0].message)`;
  return `${open}stream = client.chat.completions.create(\n${given}\n)\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)`;
}

// Returns a JSON value as Python writes it. JSON's strings are Python's, too.
function literal(value, indent) {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value !== 'object') return JSON.stringify(value);
  const list = Array.isArray(value);
  const parts = list ? value.map((each) => literal(each, indent + 4)) : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, indent + 4)}`);
  const [open, close] = list ? '[]' : '{}';
  const line = `${open}${parts.join(', ')}${close}`;
  if (line.length + indent < 90 && !line.includes('\n')) return line;
  const space = ' '.repeat(indent + 4);
  return `${open}\n${parts.map((part) => `${space}${part},`).join('\n')}\n${' '.repeat(indent)}${close}`;
}
