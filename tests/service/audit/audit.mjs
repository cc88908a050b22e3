// Runs the reference audit of GraphQL over HTTP against the address in the first argument, one audit at a time, and prints
// the results as JSON. GRID_AUDIT_AUTHORIZATION is the Authorization header, for a service that asks for one.
import { serverAudits } from 'graphql-http';

const [url] = process.argv.slice(2);
const authorization = process.env.GRID_AUDIT_AUTHORIZATION;

function fetchFn(input, init = {}) {
  const headers = new Headers(init.headers);
  if (authorization) headers.set('authorization', authorization);
  return fetch(input, { ...init, headers });
}

const results = [];
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  results.push({ id: audit.id, name: audit.name, status: result.status, reason: result.reason ?? null });
}
process.stdout.write(JSON.stringify(results));
