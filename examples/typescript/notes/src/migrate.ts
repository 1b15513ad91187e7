import { readdir, readFile } from "node:fs/promises";

import pg from "pg";

// Runs each file in migrations/ once, in the order of their names; several tasks that start together wait for each other.
export async function migrate(): Promise<void> {
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  try {
    await client.query("SELECT pg_advisory_lock(hashtext('notes'))");
    await client.query("CREATE TABLE IF NOT EXISTS notes_migrations (name text PRIMARY KEY)");
    for (const name of (await readdir("migrations")).sort()) {
      await client.query("BEGIN");
      const { rowCount } = await client.query(
        "INSERT INTO notes_migrations VALUES ($1) ON CONFLICT DO NOTHING",
        [name],
      );
      if (rowCount) {
        await client.query(await readFile(`migrations/${name}`, "utf8"));
        console.log(`applied ${name}`);
      }
      await client.query("COMMIT");
    }
  } finally {
    await client.end();
  }
}

if (import.meta.main) await migrate();
