import { cookies } from "next/headers";

export type Plan = { id: string; business: string; status: "queued" | "ready"; steps: string[] | null };

/** The api's response to the visitor, or null if they are not signed in or it is not found. */
export async function get<Answer>(path: string): Promise<Answer | null> {
  const answer = await fetch(`${process.env.API_INTERNAL_URL}/api${path}`, {
    headers: { cookie: (await cookies()).toString() },
    cache: "no-store",
  });
  if (answer.status === 401 || answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the api answers ${answer.status}`);
  return answer.json();
}
