// The container's health check: exit code 0 where the service answers.
const host = ["", "0.0.0.0", undefined].includes(process.env.HOST) ? "127.0.0.1" : process.env.HOST;
try {
  const answer = await fetch(`http://${host}:${process.env.PORT}/health`, { signal: AbortSignal.timeout(3000) });
  process.exit(answer.ok ? 0 : 1);
} catch (error) {
  console.error(`cannot ask for /health: ${error.cause?.message ?? error.message}`);
  process.exit(1);
}
