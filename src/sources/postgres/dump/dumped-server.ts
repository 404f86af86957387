import { errorInfo } from '../../../base/errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import type { CaptureContext, CapturedDatabase, CapturedTree } from '../../source.ts';
import type { chooseDatabases, MissingDatabase } from '../facts/databases.ts';
import { asksOf, type PostgresFacts } from '../facts/facts.ts';
import { collationWarnings, rowsOf, summarise } from '../facts/summary.ts';
import { refuseUnsoundDumps } from './dump-files.ts';
import { withoutGlobalsError } from './dump-globals.ts';
import type { dumpServer } from './dump-server.ts';

/** The outcome of the dump of a server, and the records about it. */
export interface DumpedServer {
  dump: Awaited<ReturnType<typeof dumpServer>>;
  /** the facts, except those about databases */
  facts: Pick<PostgresFacts, 'server' | 'memberships'>;
  chosen: Pick<ReturnType<typeof chooseDatabases>, 'missing' | 'closed' | 'templates'>;
  /** about the whole server, before and after those of the dump */
  warnings: { before: string[]; after: string[] };
}

/**
 * Removes the databases whose files are not those of a sound dump, and lists them as missing.
 *
 * @throws the error of the first one if no database is left
 */
export async function leaveOutUnsound(
  planned: PostgresSource,
  context: CaptureContext,
  server: DumpedServer,
): Promise<DumpedServer> {
  const { dump } = server;
  const sizes = new Map(dump.databases.map(({ name, largeObjectBytes }) => [name, largeObjectBytes]));
  const { refused, warnings } = await refuseUnsoundDumps({
    root: context.spool,
    dumps: [...dump.dumpIds].map(([name, dumpIds]) => ({ name, dumpIds, largeObjectBytes: sizes.get(name) })),
    failed: dump.missing.map(({ name }) => name),
    compression: dump.compression,
    signal: context.signal,
  });
  for (const { name, error } of refused) {
    const about = { source: planned.name, database: name, ...errorInfo(error) };
    context.log.warn('a database could not be dumped', about);
  }
  const names = new Set(refused.map(({ name }) => name));
  const databases = dump.databases.filter(({ name }) => !names.has(name));
  const [first] = refused;
  if (first && databases.length === 0) throw first.error;
  const missing = [...dump.missing, ...refused];
  return { ...server, dump: { ...dump, databases, missing, warnings: [...dump.warnings, ...warnings] } };
}

/** Builds the tree that the source passes to the store. */
export function toTree(
  planned: PostgresSource,
  context: CaptureContext,
  { dump, facts: of, chosen, warnings }: DumpedServer,
): CapturedTree {
  const { compression, databases, roles, withoutGlobals } = dump;
  const asks = asksOf(planned);
  const facts: PostgresFacts = {
    kind: 'postgres',
    ...of,
    compression,
    databases,
    rows: rowsOf(databases),
    ...(roles ? { roles } : {}),
    ...(asks ? { asks } : {}),
  };
  return {
    root: context.spool,
    reach: { kind: 'here' },
    include: [],
    exclude: [],
    facts,
    summary: summarise(facts, chosen.templates),
    warnings: [...warnings.before, ...dump.warnings, ...warnings.after, ...collationWarnings(facts)],
    image: planned.imageId,
    ...(withoutGlobals ? { withoutGlobals: withoutGlobalsError(errorInfo(withoutGlobals)) } : {}),
    databases: outcomesOf(facts, [...chosen.missing, ...dump.missing], chosen.closed),
  };
}

function outcomesOf(
  facts: PostgresFacts,
  missing: readonly MissingDatabase[],
  closed: readonly MissingDatabase[],
): CapturedDatabase[] {
  return [
    ...facts.databases.map(({ name }) => ({ name })),
    ...missing.map(({ name, error }) => ({ name, error: errorInfo(error) })),
    ...closed.map(({ name, error }) => ({ name, error: errorInfo(error), closed: true as const })),
  ];
}
