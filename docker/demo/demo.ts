import { setTimeout as sleep } from 'node:timers/promises';
import { compare, dropDatabase, emptyVolume, ofDatabase, ofVolume } from './fingerprint.ts';
import { dropTable, rowsNow, waitForWindow, waitUntilStored, writeReview } from './lost-table.ts';
import { COPY, type Key, lookInside, loseHost, makeKey, startBucket } from './off-site.ts';
import { pageAddress, waitForEnter } from './page.ts';
import { compose, goOffSite, inService, lifeboat, lifeboatWithKey, PROJECT, removeAll } from './project.ts';
import { type Received, slackText } from './receiver-log.ts';

/**
 * `npm run demo`: a shop is backed up by schedule, loses a table, then its database and its files, and gets them back.
 * The exit status is 0 only if the restored data equals the lost data. A drill ends it. `--keep` leaves the project
 * running. `--off-site` also copies everything to a bucket, encrypted, then loses the backups too, and restores from
 * the bucket with the key. No table is lost then. The page of Lifeboat shows all of it; on a terminal, it stays until
 * somebody presses Enter.
 */

const WAIT_MS = 180_000;
const LOCKED = 11;
const INTERRUPTED = 130;
/** number of differences that are shown */
const SHOWN = 20;

const say = (text = '') => console.log(text);
const indent = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `   ${line}`))
    .join('\n');
const show = (text: string) => say(indent(text));
let step = 0;
function heading(text: string): void {
  step += 1;
  say(`\n${step}. ${text}`);
}

const stop = new AbortController();
const { signal } = stop;

/** The additional parts of the off-site variant. */
interface OffSite {
  key: Key;
  bucket: Awaited<ReturnType<typeof startBucket>>;
}

async function startShop(key: Key | undefined): Promise<OffSite | undefined> {
  heading('A shop: a database, an upload site with a volume, and Lifeboat');
  show('$ docker compose up --detach');
  await compose(['up', '--detach', '--wait', '--wait-timeout', '120', 'db', 'web', 'receiver'], { signal });
  await inService('web', ['node', '/app/fill.ts'], signal);
  const bucket = key && (await startBucket(signal));
  // Last, so that its first scheduled run finds everything.
  await compose(['up', '--detach', 'lifeboat'], { signal });
  const page = await pageAddress(signal);
  if (page !== undefined) show(`The page of Lifeboat shows all of this: ${page}`);
  if (!key || !bucket) return undefined;
  show(`and a bucket elsewhere. Lifeboat encrypts for ${key.recipient}; the key to decrypt is not on the host.`);
  return { key, bucket };
}

async function showPlan(): Promise<void> {
  heading('What Lifeboat will do');
  show('$ docker compose exec lifeboat lifeboat plan');
  const plan = await lifeboat(['plan'], signal);
  show(plan.output);
  if (plan.status !== 0) throw new Error(`lifeboat plan ended with status ${plan.status}`);
}

/** Waits for the notifications of the first scheduled run: others are about base backups. */
async function notifications(): Promise<{ pings: Received[]; message: Received | undefined }> {
  const script = `fetch('http://127.0.0.1:8080/_requests').then((r) => r.text()).then((t) => console.log(t))`;
  for (const began = Date.now(); Date.now() - began < WAIT_MS; ) {
    const requests = JSON.parse(await inService('receiver', ['node', '-e', script], signal)) as Received[];
    const about = requests.filter(({ body }) => body.includes('web.media'));
    const message = about.find(({ path }) => path.startsWith('/services/'));
    const rid = about.find(({ path }) => path.startsWith('/ping/'))?.query.rid;
    const pings = requests.filter(({ path, query }) => path.startsWith('/ping/') && query.rid === rid);
    if (message && rid !== undefined) return { pings, message };
    await sleep(1000, undefined, { signal });
  }
  throw new Error(`no run ended within ${WAIT_MS / 1000} seconds`);
}

/** Waits for the first scheduled run, and shows its notifications. Returns how long it waited, in milliseconds. */
async function waitForRun(): Promise<number> {
  heading('Waiting for the schedule, which is every minute here. Nobody starts a backup by hand');
  const began = Date.now();
  const { pings, message } = await notifications();
  show('What healthchecks.io received (the service `receiver` stands in for it and for Slack):');
  for (const { at, method, path, query } of pings) {
    show(`  ${new Date(at).toLocaleTimeString('en-GB')}  ${method} ${path}  rid=${query.rid}`);
  }
  const [first, second] = pings;
  const kinds = [first, second].map((ping) => ping?.path.split('/')[3] ?? '');
  if (!first || !second || kinds.join() !== 'start,' || !first.query.rid || first.query.rid !== second.query.rid) {
    throw new Error(`no start and success with one rid:\n${pings.map(({ body }) => body).join('\n')}`);
  }
  show('  a start and a success with the same rid, so both belong to one run');
  say();
  show('What Slack received:');
  show(indent(slackText(message?.body ?? '{}')));
  return Math.max(0, first.at - began);
}

async function showBucket({ bucket }: OffSite): Promise<void> {
  heading('What is in the bucket');
  const { encrypted, clear } = await lookInside(bucket);
  show(`${encrypted} objects are encrypted with age. These are not: ${clear.join(', ')}`);
  const odd = clear.filter((name) => !/^lifeboat\.json$|\/manifest\.json$|^leases\//.test(name));
  if (encrypted === 0 || odd.length > 0) throw new Error(`not everything is encrypted: ${odd.join(', ')}`);
}

/** Returns the id of the first scheduled snapshot of the shop. */
async function snapshot(): Promise<string> {
  const { stdout } = await lifeboat(['snapshots', '--json'], signal);
  const { snapshots } = JSON.parse(stdout) as { snapshots: { id: string; trigger: string; status: string }[] };
  const first = snapshots.findLast(({ trigger }) => trigger === 'schedule');
  if (first?.status !== 'ok') throw new Error(`no good scheduled snapshot: ${stdout}`);
  return first.id;
}

/** Drops a table, and brings it back as it was seconds before, with a row that no backup has. */
async function loseTable(): Promise<void> {
  heading('Somebody drops a table');
  await waitForWindow(signal);
  const { at, rows } = await writeReview(signal);
  show(`At ${at}, a customer has just written a review. reviews: ${rows}`);
  show('$ psql -c "DROP TABLE reviews"');
  if (!(await dropTable(signal))) throw new Error('the table is not gone, so a restore would prove nothing');
  heading('Lifeboat brings it back as it was at that time, and not as of the last backup');
  await waitUntilStored(at, signal);
  const args = ['restore', 'db.postgres', '--at', at, '--database', 'shop', '--table', 'public.reviews'];
  await run(args, undefined);
  const now = await rowsNow(signal);
  show(`reviews: ${now}`);
  if (rows === undefined || now !== rows) throw new Error('the table is not as it was');
}

async function loseEverything(offSite: OffSite | undefined): Promise<void> {
  heading('Now everything is lost');
  if (offSite) {
    show(`$ docker compose rm --stop lifeboat && docker volume rm ${PROJECT}_backups ${PROJECT}_spool`);
    await loseHost(signal);
    show('  the host has no backups left');
  }
  show('$ psql -c "DROP DATABASE shop WITH (FORCE)"');
  show(`  databases left on the server: ${await dropDatabase(signal)}`);
  show('$ find /srv/media -mindepth 1 -delete');
  await emptyVolume(signal);
  const site = `fetch('http://127.0.0.1:3000/').then((r) => r.text()).then((t) => console.log(t))`;
  const answer = (await inService('web', ['node', '-e', site], signal)).trim();
  show(`  the upload site says: ${answer}`);
  if (answer !== '0 files') throw new Error('the files are not gone, so a restore would prove nothing');
}

/** Runs a command, and shows what it says. Repeats it while a scheduled run is under way. */
async function run(args: readonly string[], offSite: OffSite | undefined): Promise<void> {
  const all = [...args, ...(offSite ? ['--from', COPY] : [])];
  const how = offSite ? 'run -v ./age-identity.txt:/run/age-identity …' : 'exec lifeboat';
  const typed = all.map((one) => (one.includes(' ') ? `"${one}"` : one)).join(' ');
  show(`$ docker compose ${how} lifeboat ${typed}`);
  for (let tries = 0; ; tries += 1) {
    const { status, output } = await (offSite ? lifeboatWithKey(offSite.key.file, all, signal) : lifeboat(all, signal));
    // The next scheduled run comes within a minute, and a drill gives way to it.
    if ([LOCKED, INTERRUPTED].includes(status) && !signal.aborted && tries < 60) {
      await sleep(1000, undefined, { signal });
      continue;
    }
    show(output);
    if (status !== 0) throw new Error(`lifeboat ${args.join(' ')} ended with status ${status}`);
    return;
  }
}

/** Resolves to whether all is equal at the end, and to the part of the time that was waiting for the minute, ms. */
async function story(key: Key | undefined): Promise<{ equal: boolean; waited: number }> {
  const offSite = await startShop(key);
  const [database, volume] = await Promise.all([ofDatabase(signal), ofVolume(signal)]);
  const tables = [...database].filter(([name]) => name.startsWith('public.'));
  const rows = tables.map(([name, value]) => `${name.replace('public.', '')} (${value.replace(/, md5.*/, '')})`);
  show(`db holds the tables ${rows.join(', ')}`);
  const names = [...volume.all.keys()].filter((name) => /[^ -~]/.test(name)).map((name) => name.slice(2));
  show(`web holds ${volume.all.size} files, links and directories, with names like ${names.slice(0, 3).join(', ')}`);
  await showPlan();
  const waited = await waitForRun();
  const id = await snapshot();
  if (offSite) await showBucket(offSite);
  else await loseTable();
  await loseEverything(offSite);
  heading(offSite ? 'Lifeboat brings it back from the bucket, with the key' : 'Lifeboat brings it back');
  await run(['restore', id, 'db.postgres'], offSite);
  await run(['restore', id, 'web.media'], offSite);
  heading('Is it the same? psql, find and sha256sum compare before and after');
  const [databaseAfter, volumeAfter] = await Promise.all([ofDatabase(signal), ofVolume(signal)]);
  const parts = compare(new Map([...database, ...volume.summary]), new Map([...databaseAfter, ...volumeAfter.summary]));
  show(parts.lines.join('\n'));
  const entries = compare(volume.all, volumeAfter.all);
  const unequal = entries.lines.filter((line) => !line.endsWith(' equal'));
  if (unequal.length > 0) show(unequal.slice(0, SHOWN).join('\n'));
  heading('Nobody should learn from a loss whether backups restore: a drill proves it each week');
  await run(['drill', '--snapshot', id, 'db.postgres', 'web.media'], offSite);
  return { equal: parts.equal && entries.equal, waited };
}

/** On a terminal, leaves the page for somebody to look at. */
async function showPage(): Promise<void> {
  const page = process.stdin.isTTY && process.stdout.isTTY ? await pageAddress(signal) : undefined;
  if (page === undefined) return;
  say(`\nThe page of Lifeboat: ${page}\nPress Enter to remove the demo.`);
  await waitForEnter(process.stdin, signal);
}

async function main({ keep, offSite }: { keep: boolean; offSite: boolean }): Promise<number> {
  const start = performance.now();
  const end = keep ? 'left running at the end' : 'removed at the end; npm run demo -- --keep leaves it running';
  say(`Lifeboat demo. The Compose project ${PROJECT} (docker/demo/compose.yaml) is ${end}.`);
  const key = offSite ? await makeKey() : undefined;
  if (key) goOffSite(key.recipient);
  if (await removeAll()) show('An earlier demo was still there; it is removed.');
  let status = 1;
  try {
    const { equal, waited } = await story(key);
    const seconds = (ms: number) => `${Math.round(ms / 1000)} s`;
    const time = `${seconds(performance.now() - start)}, of which ${seconds(waited)} waiting for the full minute`;
    say(equal ? `\nEvery row and every file is back, equal. It took ${time}.` : '\nNOT everything is as it was.');
    status = equal ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) say(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`);
    if (!signal.aborted) show(await compose(['logs', '--no-color', '--tail', '20', 'lifeboat']).catch(String));
  }
  if (!keep) await showPage();
  if (keep && !signal.aborted) {
    const page = await pageAddress(signal);
    if (page !== undefined) say(`The page of Lifeboat: ${page}`);
    say(`It is left running. To look around: docker compose -p ${PROJECT} exec lifeboat lifeboat snapshots`);
    say(`To remove it: docker compose -p ${PROJECT} down --volumes`);
  } else {
    await removeAll();
    say(`${signal.aborted ? '\nStopped. ' : ''}The project and its volumes are removed again.`);
  }
  await key?.remove();
  return signal.aborted ? 130 : status;
}

for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort(new Error('stopped')));
process.exitCode = await main({
  keep: process.argv.includes('--keep'),
  offSite: process.argv.includes('--off-site'),
});
