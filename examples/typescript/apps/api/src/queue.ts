import { Redis, type RedisOptions } from "ioredis";

export const QUEUE = "planner";

export function connectRedis(options: RedisOptions = {}): Redis {
  const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost", options);
  redis.on("error", (error) => console.error(error.message));
  return redis;
}
