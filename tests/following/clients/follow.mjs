// Fetches each URL of the standard input with fetch and follows redirects.

import { createInterface } from "node:readline";

for await (const url of createInterface({ input: process.stdin })) {
  try {
    await (await fetch(url)).arrayBuffer();
  } catch (error) {
    console.error(url, error, error.cause);
  }
}
