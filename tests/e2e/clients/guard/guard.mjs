// Keep a process on this machine: `node --import guard.mjs`. As sitecustomize.py beside it does for Python.

import { writeSync } from "node:fs";
import { isIP, Socket } from "node:net";

const connect = Socket.prototype.connect;

Socket.prototype.connect = function (...given) {
  const host = hostOf(given);
  if (isLocal(host)) return connect.apply(this, given);
  writeSync(1, `\n${JSON.stringify({ refused: host })}\n`);
  process.nextTick(() => this.destroy(new Error(`this process contacts its own machine only, not ${host}`)));
  return this;
};

// https://nodejs.org/api/net.html#socketconnect: options, a path, or port and host; net.connect() passes them in an array.
function hostOf(given) {
  const [first, second] = Array.isArray(given[0]) ? given[0] : given;
  if (first !== null && typeof first === "object") return first.path ? "localhost" : (first.host ?? "localhost");
  if (typeof first === "string" && Number.isNaN(Number(first))) return "localhost";
  return typeof second === "string" ? second : "localhost";
}

function isLocal(host) {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
