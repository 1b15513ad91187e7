import { notFound } from "next/navigation";

import { get, type Plan } from "../../api";
import { Refresh } from "./refresh";

export default async function Page({ params }: { params: Promise<{ id: string }> }) {
  const plan = await get<Plan>(`/plans/${encodeURIComponent((await params).id)}`);
  if (plan === null) notFound();
  return (
    <>
      <h1>{plan.business}</h1>
      {plan.steps ? (
        <ol>
          {plan.steps.map((step) => (
            <li key={step}>{step}</li>
          ))}
        </ol>
      ) : (
        <Refresh />
      )}
      <a href="/">All plans</a>
    </>
  );
}
