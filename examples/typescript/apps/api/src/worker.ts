import { connect, eq, plans } from "@planner/database";
import { Worker } from "bullmq";

import { connectRedis, QUEUE } from "./queue.js";

const database = connect(2);
const redis = connectRedis({ maxRetriesPerRequest: null });

const worker = new Worker<{ planId: string }>(
  QUEUE,
  async ({ data }) => {
    const [plan] = await database.select().from(plans).where(eq(plans.id, data.planId));
    if (!plan) return;
    const steps = [`Ask ten customers what ${plan.business} is for`, "Write it on the first page", "Send it to everybody"];
    await database.update(plans).set({ status: "ready", steps }).where(eq(plans.id, plan.id));
    console.log(`plan ${plan.id} is ready`);
  },
  { connection: redis },
);
worker.on("error", (error) => console.error(error.message));

process.once("SIGTERM", async () => {
  await worker.close();
  redis.disconnect();
  await database.end();
});
