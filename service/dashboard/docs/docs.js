// The interface as a page: reads /v1/openapi.json and /v1/asyncapi.json of this service, and draws them. Nothing comes
// from elsewhere, and nothing is sent.

const METHODS = ["get", "post", "put", "patch", "delete"];

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const plain = (text) => text.replaceAll("``", "");
const anchor = (method, path) => `${method}-${path}`.replace(/[^a-z0-9]+/gi, "-");
const refName = (ref) => ref.split("/").at(-1);

/** A schema's type in a few words. */
function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return refName(schema.$ref);
  for (const kind of ["anyOf", "oneOf", "allOf"]) if (schema[kind]) return schema[kind].map(typeOf).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items) || (schema.prefixItems ?? []).map(typeOf).join(", ") || "anything"}`;
  if (schema.type === "object" && schema.additionalProperties?.type) return `object of ${typeOf(schema.additionalProperties)}`;
  return [schema.type ?? "anything", schema.format && `(${schema.format})`].filter(Boolean).join(" ");
}

/** The limits that a schema states, in a few words. */
function limitsOf(schema) {
  const found = [];
  for (const part of [schema, ...(schema.anyOf ?? [])]) {
    if (part.minimum !== undefined) found.push(`≥ ${part.minimum}`);
    if (part.exclusiveMinimum !== undefined) found.push(`> ${part.exclusiveMinimum}`);
    if (part.maximum !== undefined) found.push(`≤ ${part.maximum}`);
    if (part.exclusiveMaximum !== undefined) found.push(`< ${part.exclusiveMaximum}`);
    if (part.maxLength !== undefined) found.push(`at most ${part.maxLength} characters`);
    if (part.maxItems !== undefined) found.push(`at most ${part.maxItems}`);
    if (part.pattern) found.push(part.pattern);
  }
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

/** Names that a schema refers to, with those that these refer to. */
function referred(schema, schemas, found = new Set()) {
  if (Array.isArray(schema)) schema.forEach((one) => referred(one, schemas, found));
  else if (schema && typeof schema === "object") {
    if (schema.$ref && !found.has(refName(schema.$ref))) {
      found.add(refName(schema.$ref));
      referred(schemas[refName(schema.$ref)], schemas, found);
    }
    for (const [key, value] of Object.entries(schema)) if (key !== "examples") referred(value, schemas, found);
  }
  return found;
}

function propertiesTable(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    h("tr", {},
      h("td", {}, h("code", { text: name }), schema.required?.includes(name) ? "" : h("span", { class: "dim", text: " optional" })),
      h("td", {}, h("span", { class: "type", text: typeOf(property) }), h("div", { text: property.description ?? "" }),
        limitsOf(property) ? h("div", { class: "dim", text: limitsOf(property) }) : null)));
  return rows.length ? h("table", {}, ...rows) : null;
}

const example = (value) => h("pre", { text: typeof value === "string" ? value : JSON.stringify(value, null, 2) });

/** What is said of one schema and of all that it refers to; the inner ones folded. */
function schemaParts(given, schemas) {
  const named = (given.anyOf ?? []).filter((one) => one.type !== "null");
  const schema = named.length === 1 ? named[0] : given;
  const own = schema.$ref ? schemas[refName(schema.$ref)] : schema;
  const parts = [h("p", { class: "type", text: typeOf(given) }), own.description ? h("p", { text: plain(own.description) }) : null, propertiesTable(own)];
  if (own.examples) parts.push(h("h3", { text: "Example" }), example(own.examples[0]));
  const inner = [...referred(own, schemas)].filter((name) => !schema.$ref || name !== refName(schema.$ref));
  for (const name of inner) {
    const one = schemas[name];
    const body = h("div", {}, one.description ? h("p", { text: plain(one.description) }) : null, propertiesTable(one),
      one.enum ? h("p", { text: typeOf(one) }) : null);
    parts.push(h("details", {}, h("summary", {}, h("code", { text: name })), body));
  }
  return parts.filter(Boolean);
}

function contentParts(content, schemas) {
  return Object.entries(content ?? {}).flatMap(([type, media]) => [
    h("p", { class: "dim", text: type }),
    ...(media.schema ? schemaParts(media.schema, schemas) : []),
    ...(media.example !== undefined ? [h("h3", { text: "Example" }), example(media.example)] : []),
  ]);
}

function operation(method, path, described, schemas) {
  const parts = [];
  if (described.description) parts.push(...plain(described.description).split("\n\n").map((text) => h("p", { text })));
  if (described["x-scopes"]) parts.push(h("p", { class: "dim", text: `Needs a key with the scope ${described["x-scopes"].join(" or ")}.` }));
  if (described.parameters?.length) {
    parts.push(h("h3", { text: "Parameters" }), h("table", {}, ...described.parameters.map((one) =>
      h("tr", {},
        h("td", {}, h("code", { text: one.name }), h("span", { class: "dim", text: ` ${one.in}${one.required ? "" : ", optional"}` })),
        h("td", {}, h("span", { class: "type", text: typeOf(one.schema) }), h("div", { text: one.description ?? "" }),
          h("div", { class: "dim", text: limitsOf(one.schema ?? {}) }))))));
  }
  if (described.requestBody) parts.push(h("h3", { text: "Body" }), ...contentParts(described.requestBody.content, schemas));
  const responses = Object.entries(described.responses ?? {});
  for (const [status, response] of responses.filter(([status]) => status < "400")) {
    parts.push(h("h3", { text: `${status} ${response.description}` }), ...contentParts(response.content, schemas));
  }
  const problems = responses.filter(([status]) => status >= "400").map(([status, response]) => `${status} ${response.description}`);
  if (problems.length) parts.push(h("h3", { text: "Problems" }), h("p", { class: "dim", text: problems.join(" · ") }));
  return card(method.toUpperCase(), path, described.summary ?? "", parts);
}

function card(method, path, summary, parts) {
  const element = h("details", { id: anchor(method, path) },
    h("summary", {}, h("span", { class: `method ${method}`, text: method }), h("code", { text: path }), h("span", { class: "dim", text: summary })),
    h("div", {}, ...parts));
  element.dataset.words = element.textContent.toLowerCase();
  return element;
}

function restSections(document_) {
  const byTag = new Map();
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = item[method].tags?.[0] ?? "other";
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(operation(method, path, item[method], document_.components.schemas));
    }
  }
  return new Map([...byTag].sort(([one], [other]) => one.localeCompare(other)));
}

/** The streams' messages, as AsyncAPI has them. */
function streamCards(document_) {
  const { schemas, messages } = document_.components;
  return Object.values(document_.channels).map((channel) => {
    const parts = [h("p", { text: channel.description ?? "" })];
    for (const ref of Object.values(channel.messages)) {
      const message = messages[refName(ref.$ref)];
      parts.push(h("details", {}, h("summary", {}, h("code", { text: message.name }), h("span", { class: "dim", text: message.summary ?? "" })),
        h("div", {}, ...schemaParts(message.payload, schemas))));
    }
    return card(channel["x-kind"], channel.address, channel.title ?? "", parts);
  });
}

function contents(sections) {
  return [...sections].flatMap(([tag, cards]) => [
    h("strong", { text: tag }),
    ...cards.map((one) => {
      const [method, path] = one.querySelector("summary").children;
      return h("a", { href: `#${one.id}`, "data-of": one.id }, h("span", { class: method.className, text: `${method.textContent} ` }), path.textContent);
    }),
  ]);
}

function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of document.querySelectorAll("main > section > details")) {
    one.hidden = !words.every((word) => one.dataset.words.includes(word));
    document.querySelector(`nav [data-of="${one.id}"]`).hidden = one.hidden;
  }
  for (const section of document.querySelectorAll("main > section")) section.hidden = !section.querySelector(":scope > details:not([hidden])");
}

async function load(address) {
  const response = await fetch(address, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${address}: the service responded with ${response.status}`);
  return response.json();
}

async function draw() {
  const main = document.getElementById("operations");
  try {
    const [rest, streams] = await Promise.all([load("/v1/openapi.json"), load("/v1/asyncapi.json")]);
    document.getElementById("about").textContent = `${rest.info.description} Version ${rest.info.version}.`;
    const sections = restSections(rest);
    sections.set("live streams", streamCards(streams));
    main.replaceChildren(...[...sections].map(([tag, cards]) => h("section", {}, h("h2", { text: tag }), ...cards)));
    document.getElementById("contents").replaceChildren(...contents(sections));
    document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
    addEventListener("hashchange", openNamed);
    openNamed();
  } catch (error) {
    main.replaceChildren(h("p", { role: "alert", text: `The description could not be read: ${error.message}. Load this page again.` }));
  }
}

draw();
