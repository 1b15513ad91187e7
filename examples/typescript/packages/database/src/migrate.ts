import { migrate } from "drizzle-orm/node-postgres/migrator";

import { connect } from "./index.js";

const database = connect(1);
await migrate(database, { migrationsFolder: `${import.meta.dirname}/../drizzle` });
await database.end();
console.log("the database is migrated");
