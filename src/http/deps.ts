import type { Log } from '../base/log.ts';
import type { OverviewDeps } from '../overview/overview.ts';
import type { KeepPolicy } from '../plan/model.ts';
import type { HttpSettings } from '../plan/values/http-settings.ts';

/** Read-only dependencies of the server. */
export interface HttpDeps extends OverviewDeps {
  version: string;
  log: Log;
  settings: OverviewDeps['settings'] & { http?: HttpSettings; keep: KeepPolicy; schedule: string };
  engine: { ping(options?: { signal?: AbortSignal }): Promise<void> };
  /** directory of runs inside the spool, for indexes that are being read */
  runs: string;
  now(): Date;
  /** milliseconds since the scheduler last looked for due runs */
  sinceTick(): number;
}
