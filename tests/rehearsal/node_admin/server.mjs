// A back office in Node without a dependency: the service contract (docs/reference/service-contract.md) in one file.
// It shows administrators who they are; everything else about it is what any image in this place has to do.

import { createPublicKey, randomUUID, verify } from "node:crypto";
import { createServer } from "node:http";
import { BlockList } from "node:net";

import { read } from "./settings.mjs";

const KEEP_ALIVE_MS = 75_000; // longer than the load balancer's idle timeout of 60 s
const MOST_BODY_BYTES = 256 * 1024;
const MOST_SHUTDOWN_MS = 20_000; // less than the 30 s between SIGTERM and SIGKILL

const settings = read(process.env);
const trusted = new BlockList();
trusted.addSubnet("127.0.0.0", 8);
if (settings.vpc) trusted.addSubnet(settings.vpc.split("/")[0], Number(settings.vpc.split("/")[1]));

const counts = new Map();
let inFlight = 0;
let isStopping = false;

function log(level, message, fields = {}) {
  console.log(JSON.stringify({ time: new Date().toISOString(), level, service: settings.service, message, ...fields }));
}

// Who asks: proxy headers count where the peer is inside, and only what came past no proxy is the inside.
function findCaller(request) {
  const peer = request.socket.remoteAddress.replace(/^::ffff:/, "");
  const isTrusted = (address) => trusted.check(address);
  if (!isTrusted(peer)) return { client: peer, scheme: "http", isInside: false };
  const hops = (request.headers["x-forwarded-for"] ?? "").split(",").map((hop) => hop.trim()).filter(Boolean);
  const client = hops.findLast((hop) => !isTrusted(hop)) ?? hops[0] ?? peer;
  return { client, scheme: request.headers["x-forwarded-proto"] === "https" ? "https" : "http", isInside: hops.length === 0 };
}

// The visitor's access token, verified with auth's public key; null where it is missing or worth nothing.
async function findVisitor(request) {
  const token = /(?:^|;\s*)alva_access=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
  if (!token) return null;
  const [head, body, signature] = token.split(".");
  const decode = (part) => JSON.parse(Buffer.from(part, "base64url"));
  const answer = await fetch(`${settings.authUrl}/auth/.well-known/jwks.json`, { signal: AbortSignal.timeout(5000) });
  const { keys } = await answer.json();
  try {
    const { alg, typ, kid } = decode(head);
    const key = keys.find((one) => one.kid === kid);
    if (alg !== "RS256" || typ !== "at+jwt" || !key) return null;
    const publicKey = createPublicKey({ key, format: "jwk" });
    if (!verify("sha256", `${head}.${body}`, publicKey, Buffer.from(signature, "base64url"))) return null;
    const claims = decode(body);
    const isRight = claims.iss === "alva-auth" && claims.aud === "alva" && claims.exp * 1000 > Date.now();
    return isRight ? claims : null;
  } catch {
    return null;
  }
}

const escapeHtml = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
const json = (status, value) => ({ status, type: "application/json", body: JSON.stringify(value) });
const page = (status, heading, text) => ({
  status,
  type: "text/html; charset=utf-8",
  body: `<!doctype html><html lang="en"><title>${heading}</title><h1>${heading}</h1><p>${escapeHtml(text)}</p></html>`,
});

async function answer(request, caller, path, query) {
  if (path === "/health") {
    const body = { status: "ok", service: settings.service };
    if (query.get("deep") !== "1" || !caller.isInside) return json(200, body);
    const auth = await fetch(`${settings.authUrl}/health`, { signal: AbortSignal.timeout(3000) }).then(
      (response) => (response.ok ? "ok" : `HTTP ${response.status}`),
      (error) => error.cause?.message ?? error.message,
    );
    const isHealthy = auth === "ok";
    const status = isHealthy ? "ok" : "failing";
    return json(isHealthy ? 200 : 503, { ...body, status, checks: { auth }, digest: settings.digest });
  }
  if (path === "/metrics" && caller.isInside) {
    const lines = [...counts].map(([status, count]) => `alva_requests_total{status="${status}"} ${count}`);
    return { status: 200, type: "text/plain; version=0.0.4", body: [`alva_requests_in_flight ${inFlight}`, ...lines, ""].join("\n") };
  }
  const isOwn = path === settings.prefix || path.startsWith(`${settings.prefix}/`);
  if (!isOwn) return page(404, "Not found", "There is no such page.");
  if (!["GET", "HEAD"].includes(request.method)) return page(405, "Not allowed", "This page takes no forms.");
  const visitor = await findVisitor(request);
  caller.user = visitor?.sub;
  if (visitor === null) {
    // Auth on another host is told ours too, or it would lead on to web's.
    const isOneHost = settings.publicAuthUrl.startsWith("/");
    const next = encodeURIComponent(isOneHost ? path : `${caller.scheme}://${request.headers.host}${path}`);
    return { status: 303, type: "text/plain", body: "", headers: { Location: `${settings.publicAuthUrl}/refresh?next=${next}` } };
  }
  if (visitor.role !== "admin") return page(403, "Administrators only", "This part of Alva is for its administrators.");
  return page(200, "Back office", `Node ${process.versions.node} serves ${visitor.email}`);
}

async function serve(request, response) {
  const started = performance.now();
  const caller = findCaller(request);
  const given = request.headers["x-request-id"] ?? "";
  const requestId = /^[A-Za-z0-9._-]{8,64}$/.test(given) ? given : randomUUID();
  const url = new URL(request.url, "http://service");
  inFlight += 1;
  let result;
  try {
    let bodyBytes = 0;
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      bodyBytes += chunk.length;
      if (bodyBytes > MOST_BODY_BYTES) break;
    }
    const isTooLong = bodyBytes > MOST_BODY_BYTES;
    result = isTooLong
      ? page(413, "Too long", "This is more than can be taken at once.")
      : await answer(request, caller, url.pathname, url.searchParams);
  } catch (error) {
    log("ERROR", "unexpected error", { request_id: requestId, exception: error.stack });
    result = page(500, "Something went wrong", "Please try again.");
  }
  response.writeHead(result.status, {
    "Content-Type": result.type,
    "Content-Length": Buffer.byteLength(result.body),
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Request-Id": requestId,
    "X-Alva-Service": settings.service,
    "X-Alva-Digest": settings.digest,
    ...(isStopping || result.status === 413 ? { Connection: "close" } : {}),
    ...result.headers,
  });
  response.end(request.method === "HEAD" ? undefined : result.body);
  inFlight -= 1;
  counts.set(result.status, (counts.get(result.status) ?? 0) + 1);
  if (url.pathname === "/health" && result.status === 200) return;
  log("INFO", `${request.method} ${url.pathname} ${result.status}`, {
    request_id: requestId,
    trace_id: request.headers["x-amzn-trace-id"],
    user: caller.user,
    method: request.method,
    path: url.pathname, // without its query, which can hold a token
    status: result.status,
    duration_ms: Math.round((performance.now() - started) * 10) / 10,
    client: caller.client,
  });
}

const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout: KEEP_ALIVE_MS + 5_000 }, serve);
server.on("error", (error) => {
  console.error(`cannot serve: ${error.message}`);
  process.exit(1);
});
server.listen(settings.port, settings.host, () => log("INFO", `listening on ${settings.host}:${settings.port}`));

process.on("SIGTERM", () => {
  isStopping = true;
  log("INFO", "stopping: the requests in hand are answered");
  server.close(() => process.exit(0)); // idle connections are closed, the others once they are answered
  setTimeout(() => process.exit(0), MOST_SHUTDOWN_MS).unref();
});
