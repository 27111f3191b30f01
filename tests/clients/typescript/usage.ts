// Uses the types that openapi-typescript generated: node usage.js URL KEY.
import assert from "node:assert/strict";
import type { components, operations } from "./schema.js";

type Schemas = components["schemas"];
type Filters = NonNullable<operations["listLinks"]["parameters"]["query"]>;

const [url, key] = process.argv.slice(2) as [string, string];
const path = "/api/v1/links/localhost/generated-typescript";

async function call<Body>(method: string, path: string, body?: unknown): Promise<[number, Body]> {
  const answer = await fetch(url + path, {
    method,
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return [answer.status, (text ? JSON.parse(text) : undefined) as Body];
}

const target = "https://example.com/";
const wanted = { target, code: "generated-typescript", tags: ["types"] } satisfies Partial<Schemas["CreateLink"]>;
const [made, created] = await call<Schemas["LinkView"]>("POST", "/api/v1/links", wanted);
assert.equal(made, 201);
const status: Schemas["LinkStatus"] = created.status;
assert.equal(status, "active");
const title: string | null | undefined = created.title;
assert.equal(title, null);

const [refused, problem] = await call<Schemas["Problem"]>("POST", "/api/v1/links", wanted);
assert.equal(refused, 409);
assert.equal(problem.type, "urn:shortlinks:problem:code-taken");

const filters: Filters = { tag: ["types"], status: ["active"] };
const query = new URLSearchParams(Object.entries(filters).flatMap(([name, values]) => [values].flat().map((value) => [name, String(value)])));
const [, page] = await call<Schemas["LinkPage"]>("GET", `/api/v1/links?${query}`);
assert.deepEqual(page.items, [created]);

const change: Schemas["EditLink"] = { enabled: false, redirect_status: 308 };
const [, edited] = await call<Schemas["LinkView"]>("PATCH", path, change);
assert.deepEqual([edited.status, edited.redirect_status], ["disabled", 308]);
assert.deepEqual(await call("PATCH", path, edited), [200, edited]);
assert.deepEqual(await call("GET", path), [200, edited]);

assert.deepEqual(await call("DELETE", path), [204, undefined]);
const [, gone] = await call<Schemas["LinkView"]>("GET", path);
assert.equal(gone.status, "deleted");
console.log("done");
