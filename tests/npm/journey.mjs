// One use of each kind by OpenAI's own JavaScript client; prints what came back as JSON.
import OpenAI, { APIError, NotFoundError } from "openai";

const client = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY say where
const messages = [{ role: "user", content: "hello" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { properties: { city: {} } } } }];
const seen = {};

for await (const model of client.models.list()) (seen.models ??= []).push(model.id);
seen.model = (await client.models.retrieve("east/gpt-4o")).id;

const whole = await client.chat.completions.create({ model: "gpt-4o", messages });
seen.whole = whole.choices[0].message.content;
seen.requestId = whole._request_id;

seen.streamed = "";
const stream = await client.chat.completions.create({ model: "gpt-4o", messages, stream: true });
for await (const chunk of stream) seen.streamed += chunk.choices[0]?.delta?.content ?? "";

const runner = client.chat.completions.stream({ model: "gpt-4o", messages, tools, tool_choice: "required" });
seen.tool = (await runner.finalMessage()).tool_calls[0].function;

const embedded = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"] });
seen.embeddings = embedded.data.map((each) => each.embedding.length);

seen.response = (await client.responses.create({ model: "gpt-4o", input: "hello" })).output_text;
seen.responseEvents = [];
for await (const event of await client.responses.create({ model: "gpt-4o", input: "hello", stream: true }))
  seen.responseEvents.push(event.type);

try {
  await client.chat.completions.create({ model: "east/nothing", messages });
} catch (error) {
  seen.error = { notFound: error instanceof NotFoundError, code: error.code, requestId: error.requestID };
}
try {
  const broken = await client.chat.completions.create({ model: "breaks", messages, stream: true });
  for await (const chunk of broken) seen.beforeTheBreak = chunk.choices.length;
} catch (error) {
  seen.broken = { api: error instanceof APIError, code: error.code };
}
console.log(JSON.stringify(seen));
