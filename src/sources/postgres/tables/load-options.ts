import type { DatabaseFacts } from '../facts/facts.ts';
import type { ExtensionCare } from '../load/extensions.ts';
import type { WorkingDatabase } from '../load/swap.ts';
import type { Tools } from '../server/tools.ts';
import type { TableParts } from './table-parts.ts';

/** Describes the tables to restore, and where to. */
export interface LoadTablesOptions {
  tools: Tools;
  recorded: DatabaseFacts;
  parts: TableParts;
  /** database into which the tables are copied */
  target: string;
  /** new name of the requested table, of which there is one */
  as?: string;
  /** directory with `toc.dat` and the files of {@link TableParts}, as the agent and the helper both see it */
  dump: string;
  /** existing directory for temporary files, as the agent and the helper both see it */
  scratch: string;
  /** suffix for the working name, from the run: `4f1c9a` */
  id: string;
  /** the requirements of the database's extensions */
  care: ExtensionCare;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
  /** Called before a database gets a working name, so recovery knows of it after a crash. */
  recordWorking(database: WorkingDatabase): void;
  /** Called before tables with these names are copied into the live database. */
  recordCopying(tables: string[]): void;
  /** Called when no database has that name any more. */
  forgetWorking(name: string): void;
}
