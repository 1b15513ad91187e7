import cookie from "@fastify/cookie";
import formbody from "@fastify/formbody";
import jwt from "@fastify/jwt";
import { and, connect, desc, eq, plans, users } from "@planner/database";
import { Queue } from "bullmq";
import Fastify from "fastify";

import { connectRedis, QUEUE } from "./queue.js";

declare module "@fastify/jwt" {
  interface FastifyJWT {
    user: { sub: string; role: string };
  }
}

const database = connect(5);
const redis = connectRedis({ maxRetriesPerRequest: 3 });
const queue = new Queue(QUEUE, { connection: redis });
const app = Fastify({ logger: true, trustProxy: true });
await app.register(formbody);
await app.register(cookie);
await app.register(jwt, { secret: process.env.JWT_SECRET!, cookie: { cookieName: "session", signed: false } });

app.get("/api/up", async () => ({ status: "ok" }));

await app.register(async (signedIn) => {
  signedIn.addHook("onRequest", (request) => request.jwtVerify());

  signedIn.get("/api/plans", async ({ user }) =>
    database.select().from(plans).where(eq(plans.userId, Number(user.sub))).orderBy(desc(plans.createdAt)),
  );

  signedIn.get<{ Params: { id: string } }>(
    "/api/plans/:id",
    { schema: { params: { type: "object", properties: { id: { type: "string", format: "uuid" } } } } },
    async ({ params, user }, reply) => {
      const [plan] = await database
        .select()
        .from(plans)
        .where(and(eq(plans.id, params.id), eq(plans.userId, Number(user.sub))));
      return plan ?? reply.code(404).send({ message: "no such plan" });
    },
  );

  signedIn.post<{ Body: { business: string } }>(
    "/api/plans",
    {
      schema: {
        body: {
          type: "object",
          required: ["business"],
          properties: { business: { type: "string", minLength: 1, maxLength: 200 } },
        },
      },
    },
    async ({ body, user }, reply) => {
      const [plan] = await database
        .insert(plans)
        .values({ userId: Number(user.sub), business: body.business })
        .returning();
      await queue.add("make", { planId: plan!.id }, { jobId: plan!.id, attempts: 5, backoff: 1000, removeOnComplete: true });
      return reply.redirect(`/plans/${plan!.id}`, 303);
    },
  );

  signedIn.get("/api/admin/plans", async ({ user }, reply) => {
    if (user.role !== "administrator") return reply.code(403).send({ message: "for administrators" });
    return database
      .select({ id: plans.id, email: users.email, business: plans.business, status: plans.status })
      .from(plans)
      .innerJoin(users, eq(plans.userId, users.id))
      .orderBy(desc(plans.createdAt))
      .limit(100);
  });
});

process.once("SIGTERM", async () => {
  await app.close();
  await queue.close();
  redis.disconnect();
  await database.end();
});

await app.listen({ host: "0.0.0.0", port: Number(process.env.PORT ?? 3001) });
