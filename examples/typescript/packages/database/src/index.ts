import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";

import * as schema from "./schema.js";

export * from "./schema.js";
export { count, desc, eq, and } from "drizzle-orm";

export function connect(max: number) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max });
  // A connection that waits in the pool ends when the server restarts: the next query opens another one.
  pool.on("error", (error) => console.error(error.message));
  return Object.assign(drizzle(pool, { schema }), { end: () => pool.end() });
}
