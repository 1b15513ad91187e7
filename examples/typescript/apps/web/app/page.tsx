import { get, type Plan } from "./api";

const PROBLEMS: Record<string, string> = {
  taken: "This address has an account already.",
  wrong: "The e-mail address or the password is wrong.",
};

function Credentials({ action, name }: { action: string; name: string }) {
  return (
    <form method="post" action={action}>
      <h2>{name}</h2>
      <label>
        E-mail address <input name="email" type="email" required />
      </label>
      <label>
        Password <input name="password" type="password" minLength={8} required />
      </label>
      <button>{name}</button>
    </form>
  );
}

export default async function Page({ searchParams }: { searchParams: Promise<{ problem?: string }> }) {
  const plans = await get<Plan[]>("/plans");
  const problem = PROBLEMS[(await searchParams).problem ?? ""];
  if (plans === null) {
    return (
      <>
        <h1>A marketing plan in a minute</h1>
        {problem && <p role="alert">{problem}</p>}
        <Credentials action="/auth/signup" name="Sign up" />
        <Credentials action="/auth/signin" name="Sign in" />
      </>
    );
  }
  return (
    <>
      <h1>Your plans</h1>
      <ul>
        {plans.map((plan) => (
          <li key={plan.id}>
            <a href={`/plans/${plan.id}`}>{plan.business}</a> {plan.status}
          </li>
        ))}
      </ul>
      <form method="post" action="/api/plans">
        <label>
          Name of the business <input name="business" required />
        </label>
        <button>Make a plan</button>
      </form>
      <form method="post" action="/auth/signout">
        <button>Sign out</button>
      </form>
    </>
  );
}
