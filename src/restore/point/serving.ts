import type { Log } from '../../base/log.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { applicationName } from '../../sources/postgres/postgres-source.ts';
import { openTools } from '../../sources/postgres/server/helper-tools.ts';
import type { AgentContext, Tools } from '../../sources/postgres/server/tools.ts';
import { openAnswering } from '../../sources/postgres/server/when-up.ts';
import type { RecoveringServer } from './recovering-server.ts';

/** The run that works with a recovered server. */
interface ServingRun {
  agent: AgentContext;
  runId: string;
  /** called with the name of each helper before it is created */
  recordHelper(name: string): void;
  log: Log;
  signal: AbortSignal;
}

/**
 * Starts a recovered server, and calls `work` with tools that may do everything on it. Only containers in the network
 * of its helper reach the server. Afterwards the server is shut down, and its helper stays.
 *
 * @param planned the source that was recovered
 * @throws PG_RESTORE_FAILED if the server does not start; PG_*, HELPER_FAILED; what `work` throws
 */
export async function withServing<T>(
  server: RecoveringServer,
  planned: PostgresSource,
  run: ServingRun,
  work: (tools: Tools, source: PostgresSource) => Promise<T>,
): Promise<T> {
  const source = await server.serve(planned, undefined);
  const application = applicationName(run.agent.project, run.runId);
  try {
    const tools = await openAnswering(() => openTools({ ...run, source, application }));
    return await work(tools, source).finally(() => tools.close());
  } finally {
    await server.stopServing();
  }
}
