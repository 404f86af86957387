import { type Context, Hono } from 'hono';
import { waitAtMost } from '../base/abort.ts';
import { errorInfo, hasCode, LifeboatError, toLifeboatError } from '../base/errors.ts';
import { redact, redactDeep } from '../base/redact.ts';
import { overviewDocument } from '../overview/document.ts';
import { type Foreseen, foreseeRetention } from '../overview/forecast.ts';
import { snapshotsDocument } from '../overview/snapshot-list.ts';
import { asDocument } from '../report/json-document.ts';
import type { ListedDrill } from '../report/terminal/listed-drill.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { type Credentials, createAuth, createNameCheck } from './auth.ts';
import type { HttpDeps } from './deps.ts';
import { type Facts, FactsCache, type FactsSource } from './facts.ts';
import { secure } from './headers.ts';
import { createHealth } from './health.ts';
import { createLive, readLive } from './live.ts';
import { createMetrics } from './metrics.ts';
import { drillBody, drillsBody } from './page/drills.ts';
import { errorBody } from './page/error.ts';
import { decodeDirectory, FILES_PER_PAGE, filesBody } from './page/files.ts';
import { homeBody } from './page/home.ts';
import { type PageParts, renderPage } from './page/layout.ts';
import { snapshotBody } from './page/snapshot.ts';
import { retentionBody, type SnapshotsInput, snapshotsBody } from './page/snapshots.ts';
import { createMemoryRelease } from './release-memory.ts';
import { createSnapshotReader, type SnapshotReader } from './snapshot-reader.ts';

/** The longest wait of the health check for a first look at the destination, milliseconds. */
const HEALTH_WAIT_MS = 3000;
/** Snapshots on a page of `/snapshots` and `/retention`. */
const SNAPSHOTS_PER_PAGE = 100;

/** The parts that answer requests. */
interface Parts {
  deps: HttpDeps;
  facts: FactsSource;
  reader: SnapshotReader;
  foreseen(facts: Facts): Promise<ReadonlyMap<string, Foreseen>>;
}

/**
 * Creates the routes. Everything is read-only.
 *
 * @param deps what the routes read
 * @param signal ends what they do in the background
 * @param facts what pages and metrics show; default: collected from `deps`
 */
export function createRoutes(
  deps: HttpDeps,
  signal: AbortSignal,
  facts: FactsSource = new FactsCache(deps, signal),
): Hono {
  const parts: Parts = { deps, facts, reader: createSnapshotReader(deps), foreseen: foreseeOnce(deps) };
  const app = new Hono();
  app.use(
    secure,
    createMemoryRelease(async () => (await deps.runsUnderWay()).length > 0),
  );
  const health = createHealth(deps, facts);
  // Before the credentials: the engine and monitors ask without any.
  app.get('/healthz', async (context) => {
    const look = facts.get().catch(() => undefined);
    if (!facts.peek()) await waitAtMost(HEALTH_WAIT_MS, look);
    const found = await health();
    return context.json(found, found.status === 'ok' ? 200 : 503);
  });
  const credentials: Credentials = deps.settings.http ?? { user: '' };
  app.use(createNameCheck(credentials), createAuth(credentials, deps));
  const metrics = createMetrics(deps, facts);
  app.get('/metrics', async (context) =>
    context.body(redact(await metrics()), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );
  addPages(app, parts);
  addDrillPages(app, parts);
  addApi(app, parts, signal);
  app.notFound((context) =>
    page(context, parts, { title: 'Not found', body: errorBody('There is no such page.') }, 404),
  );
  app.onError((error, context) => answerError(error, context, parts));
  return app;
}

function addDrillPages(app: Hono, parts: Parts): void {
  const { deps, facts } = parts;
  app.get('/drills', async (context) => {
    const { drills, evidence, overview } = await facts.get();
    const bad = [...(evidence?.problems ?? []), ...(evidence?.unsigned ?? [])];
    const body = drillsBody(drills, bad, { now: deps.now(), zone: overview.zone });
    return page(context, parts, { title: 'Drills', current: '/drills', body });
  });
  app.get('/drills/:id', async (context) => {
    const { drills, evidence, overview } = await facts.get();
    const all: readonly ListedDrill[] = evidence?.drills ?? drills;
    const report = all.find(({ id }) => id === context.req.param('id'));
    if (!report) throw new LifeboatError('PATH_UNKNOWN', 'there is no such drill');
    return page(context, parts, {
      title: `Drill ${report.id}`,
      body: drillBody(report, { now: deps.now(), zone: overview.zone }),
    });
  });
}

function addPages(app: Hono, parts: Parts): void {
  const { deps, facts, reader, foreseen } = parts;
  app.get('/', async (context) => {
    const now = await facts.get();
    const live = await readLive(deps);
    const snapshots = await snapshotsOf(now, foreseen);
    const { overview, runs, drills } = now;
    const body = homeBody({
      overview,
      runs,
      drills,
      snapshots,
      live,
      now: deps.now(),
      ...(facts.problem ? { stale: facts.problem } : {}),
    });
    return page(context, parts, { title: 'Overview', current: '/', body, live: live !== null });
  });
  app.get('/snapshots', async (context) => {
    const snapshots = await snapshotsOf(await facts.get(), foreseen);
    const after = numberOf(context.req.query('after'));
    const body = snapshotsBody(snapshots, deps.now(), { after, most: SNAPSHOTS_PER_PAGE });
    return page(context, parts, { title: 'Snapshots', current: '/snapshots', body });
  });
  app.get('/retention', async (context) => {
    const snapshots = await snapshotsOf(await facts.get(), foreseen);
    const after = numberOf(context.req.query('after'));
    const body = retentionBody(snapshots, deps.now(), { after, most: SNAPSHOTS_PER_PAGE });
    return page(context, parts, { title: 'Retention', current: '/retention', body });
  });
  app.get('/snapshots/:id', async (context) => {
    const now = await facts.get();
    const manifest = find(now, context.req.param('id'));
    const one = (await foreseen(now)).get(manifest.id);
    const shown = { facts: await reader.readFacts(manifest), now: deps.now(), zone: now.overview.zone };
    const body = snapshotBody(manifest, one ? { ...shown, foreseen: one } : shown);
    return page(context, parts, { title: manifest.id, body });
  });
  app.get('/snapshots/:id/files', async (context) => {
    const manifest = find(await facts.get(), context.req.param('id'));
    const source = context.req.query('source') ?? '';
    const directory = decodeDirectory(context.req.query('directory') ?? '');
    const after = numberOf(context.req.query('after'));
    const of = { source, directory, after, most: FILES_PER_PAGE };
    const found = await reader.readDirectory(manifest, of, context.req.raw.signal);
    if (!found.found) throw new LifeboatError('PATH_UNKNOWN', 'the snapshot has no such directory');
    const body = filesBody({ ...found, snapshot: manifest.id, source, directory, after });
    return page(context, parts, { title: source, body });
  });
}

function addApi(app: Hono, { deps, facts, foreseen }: Parts, signal: AbortSignal): void {
  app.get('/api/status', async (context) => json(context, overviewDocument((await facts.get()).overview)));
  app.get('/api/snapshots', async (context) => {
    const { overview, pins } = await facts.get();
    const { manifests, damaged, unsigned = [], otherProjects: others = [], problem } = overview.found;
    // Without the destination, an empty list would look like a loss.
    if (problem) throw problem;
    return json(context, snapshotsDocument({ manifests, unsigned, damaged, others }, pins));
  });
  app.get('/api/snapshots/:id', async (context) => json(context, find(await facts.get(), context.req.param('id'))));
  app.get('/api/windows', async (context) => {
    const { windows, found } = (await facts.get()).overview;
    if (found.problem) throw found.problem;
    return json(context, { sources: windows });
  });
  app.get('/api/retention', async (context) => {
    const all = await foreseen(await facts.get());
    return json(context, { decisions: [...all.values()] });
  });
  app.get('/api/drills', async (context) => {
    const { evidence } = await facts.get();
    return json(context, { format: 1, project: deps.project, drills: [], problems: [], ...evidence });
  });
  app.get('/api/runs', async (context) => json(context, { runs: (await facts.get()).runs }));
  app.get('/api/events', createLive(deps, signal));
  app.get('/api/*', (context) =>
    json(context, { error: { code: 'USAGE', message: 'there is no such document' } }, 404),
  );
}

/** Forecasts take a while, so each collection of facts has one. */
function foreseeOnce(deps: HttpDeps): Parts['foreseen'] {
  const known = new WeakMap<Facts, Promise<ReadonlyMap<string, Foreseen>>>();
  return (facts) => {
    const found =
      known.get(facts) ??
      foreseeRetention(facts.overview, { keep: deps.settings.keep, pins: facts.pins, state: deps.state }).then(
        (all) => new Map(all.map((one) => [one.id, one])),
      );
    known.set(facts, found);
    return found;
  };
}

async function snapshotsOf(facts: Facts, foreseen: Parts['foreseen']): Promise<SnapshotsInput> {
  const { found, zone } = facts.overview;
  return { manifests: found.manifests, foreseen: await foreseen(facts), zone };
}

function find({ overview }: Facts, id: string): Manifest {
  const found = overview.found.manifests.find((one) => one.id === id);
  if (!found) throw new LifeboatError('SNAPSHOT_UNKNOWN', `there is no snapshot ${id.slice(0, 40)}`);
  return found;
}

function numberOf(text: string | undefined): number {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : 0;
}

type Status = 200 | 404 | 500 | 503;

async function page(
  context: Context,
  { deps: { project, version } }: Parts,
  parts: Omit<PageParts, 'project' | 'version'>,
  status: Status = 200,
): Promise<Response> {
  return context.html(redact(String(await renderPage({ project, version, ...parts }))), status);
}

function json(context: Context, value: object, status: Status = 200): Response {
  return context.json(redactDeep(asDocument(value)), status);
}

async function answerError(error: unknown, context: Context, parts: Parts): Promise<Response> {
  // Nobody reads the answer any more.
  if (context.req.raw.signal.aborted) return context.body(null, 503);
  const missing = hasCode(error, 'SNAPSHOT_UNKNOWN', 'SOURCE_UNKNOWN', 'PATH_UNKNOWN');
  const status = missing ? 404 : toLifeboatError(error).code === 'INTERNAL' ? 500 : 503;
  if (status === 500) parts.deps.log.error('a request could not be answered', { ...errorInfo(error) });
  // An unexpected error may name anything, so only the log has its words.
  const info =
    status === 500
      ? { code: 'INTERNAL', message: 'an unexpected error; the log of Lifeboat names it' }
      : errorInfo(error);
  if (context.req.path.startsWith('/api/')) return json(context, { error: info }, status);
  return page(context, parts, { title: 'Error', body: errorBody(`${info.message} (${info.code})`) }, status);
}
