import type { Session } from './session.ts';

/**
 * Ends the remaining sessions of an application through SQL. They would otherwise run until they notice that their
 * client is gone.
 */
export async function endSessions(control: Promise<Session> | undefined, application: string): Promise<void> {
  const session = await control?.catch(() => undefined);
  if (!session) return;
  await session
    .all(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()',
      [application],
    )
    .catch(() => undefined);
  await session.close();
}

/** Waits for work, but no longer than `ms`. Throws if the work fails within that time. */
export async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}
