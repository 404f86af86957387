import { type Stack, until } from './stack.ts';

/**
 * While a session runs this query, or a longer one that begins with it, a check constraint of the test does not finish.
 */
export const GATE = 'SELECT pg_sleep(600) AS gate';

/**
 * Runs a gate in its own session. Resolves, once the gate is active, to a function that ends it. The server may have
 * ended it before.
 */
export async function shutGate(stack: Stack, gate = GATE): Promise<() => Promise<void>> {
  const running = stack.psql(gate).catch(String);
  const atGate = `FROM pg_stat_activity WHERE query = '${gate}'`;
  await until('the gate is shut', async () => (await stack.psql(`SELECT count(*) ${atGate}`)) !== '0');
  return async () => {
    await stack.psql(`SELECT pg_terminate_backend(pid) ${atGate}`);
    await running;
  };
}

/** Opens the gates after each test. A gate that a failed test left shut would block the following tests. */
export async function openGates(stack: Stack): Promise<void> {
  const left = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '${GATE}%'`;
  await stack.psql(left).catch(() => undefined);
}
