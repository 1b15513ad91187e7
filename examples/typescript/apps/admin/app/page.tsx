import { cookies } from "next/headers";

type Row = { id: string; email: string; business: string; status: string };

export default async function Page() {
  const answer = await fetch(`${process.env.API_INTERNAL_URL}/api/admin/plans`, {
    headers: { cookie: (await cookies()).toString() },
    cache: "no-store",
  });
  if (answer.status === 401) {
    return (
      <form method="post" action="/auth/signin">
        <h1>Administration</h1>
        <input name="next" type="hidden" value="/admin" />
        <label>
          E-mail address <input name="email" type="email" required />
        </label>
        <label>
          Password <input name="password" type="password" required />
        </label>
        <button>Sign in</button>
      </form>
    );
  }
  if (answer.status === 403) return <h1>This page is for administrators.</h1>;
  if (!answer.ok) throw new Error(`the api answers ${answer.status}`);
  const rows: Row[] = await answer.json();
  return (
    <>
      <h1>All plans</h1>
      <table>
        <thead>
          <tr>
            <th>Customer</th>
            <th>Business</th>
            <th>Status</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id}>
              <td>{row.email}</td>
              <td>{row.business}</td>
              <td>{row.status}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
