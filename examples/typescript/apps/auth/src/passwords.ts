import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const derive = promisify<string, Buffer, number, Buffer>(scrypt);

export async function hash(password: string): Promise<string> {
  const salt = randomBytes(16);
  return `${salt.toString("base64")}:${(await derive(password, salt, 32)).toString("base64")}`;
}

export async function verify(password: string, stored: string): Promise<boolean> {
  const [salt, key] = stored.split(":").map((part) => Buffer.from(part, "base64"));
  return timingSafeEqual(await derive(password, salt!, 32), key!);
}
