import { connect, eq, users } from "@planner/database";

const [email] = process.argv.slice(2);
const database = connect(1);
const found = await database.update(users).set({ role: "administrator" }).where(eq(users.email, email ?? "")).returning();
await database.end();
if (!found.length) {
  console.error(`cannot promote ${email}: no such user`);
  process.exit(1);
}
console.log(`${email} is an administrator from the next sign-in on`);
