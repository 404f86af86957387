import { type ErrorInfo, errorInfo, hasCode, type LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BaseSource, PostgresSource } from '../plan/model.ts';
import type { AlarmTopic } from '../report/alarm.ts';
import type { OpenToolsOptions, Tools } from '../sources/postgres/server/tools.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { WalPage } from '../store/wal/page.ts';
import type { ReceiverMemory } from './receiver-state.ts';

/** The dependencies of a receiver. */
export interface ReceiverDeps {
  project: string;
  /** id of the agent's memory */
  home(): Promise<string>;
  memory: ReceiverMemory;
  /** the directory of received WAL in the spool */
  spool: string;
  log: Log;
  now(): Date;
  /** how long the destination may make no progress, milliseconds */
  stallTimeoutMs: number;
  /** notifies people that trouble begins; returns at once */
  alarm(topic: AlarmTopic, source: string, error: ErrorInfo): void;
  /** notifies people that WAL is received again, if they were notified that it was not; returns at once */
  alarmOver(source: string): void;
  repository(): Promise<Repository>;
  openTools(source: PostgresSource, context: Omit<OpenToolsOptions, 'agent' | 'source' | 'log'>): Promise<Tools>;
  /** Brings copies what a page of the log lists. Returns at once. */
  feed(page: WalPage): void;
  /**
   * Makes a base backup. Resolves to false if that is not possible now, because another run is under way.
   *
   * `isNeeded`: asked again once no other run can make one; if it resolves to false, none is made
   */
  makeBase(source: BaseSource, isNeeded: () => Promise<boolean>, signal: AbortSignal): Promise<boolean>;
}

/** Tells people about an error that a receiver survives. */
export function tell(deps: Pick<ReceiverDeps, 'log' | 'alarm'>, source: string, error: LifeboatError): void {
  const info = errorInfo(error);
  deps.log.warn(error.message, { source, ...info });
  deps.alarm(hasCode(error, 'WAL_BEHIND') ? 'wal-behind' : 'wal-gap', source, info);
}
