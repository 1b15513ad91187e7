import Fastify from "fastify";
import { Redis } from "ioredis";
import pg from "pg";

import { migrate } from "./migrate.js";

const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 5 });
const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost", { maxRetriesPerRequest: 3 });
const app = Fastify({ logger: true });

// Connections end when their password is rotated or a server restarts: the next request opens new ones.
database.on("error", (error) => app.log.warn(error));
redis.on("error", (error) => app.log.warn(error));

app.get("/up", async () => ({ status: "ok" }));

app.get("/notes", async () => {
  const { rows } = await database.query("SELECT id, text FROM notes ORDER BY id");
  return { notes: rows, reads: await redis.incr("notes:reads") };
});

app.post<{ Body: { text: string } }>(
  "/notes",
  { schema: { body: { type: "object", required: ["text"], properties: { text: { type: "string" } } } } },
  async (request, reply) => {
    const { rows } = await database.query("INSERT INTO notes (text) VALUES ($1) RETURNING id, text", [request.body.text]);
    return reply.code(201).send(rows[0]);
  },
);

process.once("SIGTERM", async () => {
  await app.close();
  await database.end();
  redis.disconnect();
});

await migrate();
await app.listen({ host: "0.0.0.0", port: Number(process.env.PORT ?? 3000) });
