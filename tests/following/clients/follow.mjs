// Fetches each URL of the standard input with fetch and follows redirects. With FOLLOW_BODY
// in the environment it sends a POST with so many bytes.

import { createInterface } from "node:readline";

const size = Number(process.env.FOLLOW_BODY ?? 0);
const options = size ? { method: "POST", body: "x".repeat(size) } : {};

for await (const url of createInterface({ input: process.stdin })) {
  try {
    await (await fetch(url, options)).arrayBuffer();
  } catch (error) {
    console.error(url, error, error.cause);
  }
}
