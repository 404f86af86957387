import { type Stack, until } from './stack.ts';

/** While somebody runs that, or that with more letters, a check constraint of the test's own does not come to its end. */
export const GATE = 'SELECT pg_sleep(600) AS gate';

/** Runs a gate in a session of its own. Resolves when it is under way, to what ends it; its server may have ended it before. */
export async function shutGate(stack: Stack, gate = GATE): Promise<() => Promise<void>> {
  const running = stack.psql(gate).catch(String);
  const atGate = `FROM pg_stat_activity WHERE query = '${gate}'`;
  await until('the gate is shut', async () => (await stack.psql(`SELECT count(*) ${atGate}`)) !== '0');
  return async () => {
    await stack.psql(`SELECT pg_terminate_backend(pid) ${atGate}`);
    await running;
  };
}

/** After each test: a gate that a failed one left shut would hold up those after it. */
export async function openGates(stack: Stack): Promise<void> {
  const left = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '${GATE}%'`;
  await stack.psql(left).catch(() => undefined);
}
