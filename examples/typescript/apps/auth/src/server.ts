import cookie from "@fastify/cookie";
import formbody from "@fastify/formbody";
import jwt from "@fastify/jwt";
import { connect, eq, users } from "@planner/database";
import Fastify, { type FastifyReply } from "fastify";

import { hash, verify } from "./passwords.js";

const SESSION_SECONDS = 7 * 24 * 3600;

type User = typeof users.$inferSelect;
type Credentials = { Body: { email: string; password: string; next?: string } };

const credentials = {
  body: {
    type: "object",
    required: ["email", "password"],
    properties: {
      email: { type: "string", format: "email", maxLength: 254 },
      password: { type: "string", minLength: 8, maxLength: 200 },
      next: { type: "string" },
    },
  },
};

const database = connect(5);
const app = Fastify({ logger: true, trustProxy: true });
await app.register(formbody);
await app.register(cookie);
await app.register(jwt, { secret: process.env.JWT_SECRET! });

function signIn(reply: FastifyReply, user: User, next = "/") {
  const session = app.jwt.sign({ sub: String(user.id), role: user.role }, { expiresIn: SESSION_SECONDS });
  // Only a path of this site: //elsewhere.example would be another one.
  const target = /^\/(?![/\\])/.test(next) ? next : "/";
  return reply
    .setCookie("session", session, { path: "/", httpOnly: true, sameSite: "lax", secure: "auto", maxAge: SESSION_SECONDS })
    .redirect(target, 303);
}

app.get("/auth/up", async () => ({ status: "ok" }));

app.post<Credentials>("/auth/signup", { schema: credentials }, async ({ body }, reply) => {
  const [user] = await database
    .insert(users)
    .values({ email: body.email.toLowerCase(), passwordHash: await hash(body.password) })
    .onConflictDoNothing()
    .returning();
  return user ? signIn(reply, user, body.next) : reply.redirect("/?problem=taken", 303);
});

app.post<Credentials>("/auth/signin", { schema: credentials }, async ({ body }, reply) => {
  const [user] = await database.select().from(users).where(eq(users.email, body.email.toLowerCase()));
  const isRight = user !== undefined && (await verify(body.password, user.passwordHash));
  return isRight ? signIn(reply, user, body.next) : reply.redirect("/?problem=wrong", 303);
});

app.post("/auth/signout", async (_, reply) => reply.clearCookie("session", { path: "/" }).redirect("/", 303));

process.once("SIGTERM", async () => {
  await app.close();
  await database.end();
});

await app.listen({ host: "0.0.0.0", port: Number(process.env.PORT ?? 3002) });
