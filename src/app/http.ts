import type { OverviewDeps } from '../overview/overview.ts';
import type { Environment } from './environment.ts';

/** The page and the scheduler of a daemon. */
interface Served {
  /** called whenever the scheduler looks for due runs */
  tick(): void;
  close(): Promise<void>;
}

/**
 * Starts the server of the page and the metrics, if a port is set. Without one, none of its modules is loaded.
 *
 * @param environment what it serves
 * @param deps functions of the app
 */
export async function serveHttp(
  environment: Environment,
  deps: Pick<OverviewDeps, 'runsUnderWay' | 'listKept' | 'limitedPlaces'>,
): Promise<Served> {
  const { settings } = environment;
  let ticked = performance.now();
  const tick = () => {
    ticked = performance.now();
  };
  if (!settings.http) return { tick, close: async () => undefined };
  const { startHttp } = await import('../http/server.ts');
  const sinceTick = () => performance.now() - ticked;
  const server = await startHttp({ ...environment, ...deps, sinceTick }, settings.http.port);
  return { tick, close: async () => server?.close() };
}
