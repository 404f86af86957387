import { ruleProblems, setUpBucket, undelete } from '../app/bucket.ts';
import { openBucket } from '../app/destinations.ts';
import { EXIT } from '../base/exit.ts';
import type { SetupOutcome } from '../destinations/s3/bucket.ts';
import { agentPolicy } from '../destinations/s3/policy.ts';
import type { UndeleteResult } from '../destinations/s3/undelete.ts';
import type { Problem } from '../plan/model.ts';
import { isS3 } from '../plan/s3-location.ts';
import type { Settings } from '../plan/settings.ts';
import { formatBytes, formatCount, plural, table } from '../report/format.ts';
import { type Call, print } from './call.ts';

/** The commands that manage a bucket. They need no Docker. Most need a key with more rights than the agent's. */

/** A call of a bucket command. */
type BucketCall = Pick<Call, 'io' | 'options' | 'json'> & { settings: Settings };

/** Limits for a look at a bucket before other output appears: a server must not delay it for long. */
const BRIEF = { attempts: 2, silenceMs: 5000 };

const destinationOf = ({ options }: BucketCall) => options.destination as string | undefined;

export async function setup(call: BucketCall): Promise<number> {
  const { settings, io, options } = call;
  const bucket = openBucket(settings, io.env, { destination: destinationOf(call) });
  const outcome = await setUpBucket(bucket, options);
  const yes = options.yes === true;
  print(call, 'bucket setup', { ...outcome, set: yes }, () => renderSetup(bucket.s3.name, outcome, yes));
  const missed = outcome.steps.some(
    ({ name, state }) => state === 'failed' || (name === 'lock' && state === 'not here'),
  );
  return missed || outcome.problems.length > 0 ? EXIT.partial : EXIT.done;
}

export async function policy(call: BucketCall): Promise<number> {
  const { settings, io, options } = call;
  const opened = openBucket(settings, io.env, { destination: destinationOf(call) });
  const { bucket, prefix } = opened.s3;
  const { acl, kmsKey } = opened.location;
  const { appendOnly, lock, principal } = options;
  const document = agentPolicy({
    ...{ bucket, prefix, acl, kmsKey, appendOnly: appendOnly === true },
    ...(typeof lock === 'number' ? { lockDays: lock } : {}),
    ...(typeof principal === 'string' ? { principal } : {}),
  });
  // Unredacted: the name of a user may equal its key id, which all other output hides.
  io.out(`${JSON.stringify(document, null, call.json ? 0 : 2)}\n`);
  return EXIT.done;
}

export async function bringBack(call: BucketCall): Promise<number> {
  const { settings, io, options } = call;
  const bucket = openBucket(settings, io.env, { destination: destinationOf(call) });
  const yes = options.yes === true;
  const before = options.before as Date;
  const result = await undelete(bucket, { before, yes, now: new Date(), signal: io.signal });
  print(call, 'bucket undelete', { before: before.toISOString(), done: yes, ...result }, () =>
    renderUndelete(bucket.s3.name, before, result, yes),
  );
  if (result.failed.length > 0) return EXIT.partial;
  return result.same + result.undeleted + result.copied === 0 ? EXIT.nothing : EXIT.done;
}

/**
 * Returns the lifecycle rules that would harm backups, in the buckets of the destination and of its copies. A bucket
 * that does not exist or cannot be read yields none.
 */
export async function bucketProblems(settings: Settings, env: NodeJS.ProcessEnv): Promise<Problem[]> {
  const places = [settings.destination, ...settings.copies.map(({ location }) => location)];
  const problems = places.filter(isS3).map(async (destination) => {
    const bucket = openBucket(settings, env, { destination, limits: BRIEF });
    // Other commands report what else is wrong there.
    const rules = await bucket.harmfulRules().catch(() => []);
    return ruleProblems(bucket.s3.name, rules);
  });
  return (await Promise.all(problems)).flat();
}

function renderSetup(name: string, { steps, problems }: SetupOutcome, yes: boolean): string {
  const states = {
    ...{ 'as wanted': 'ok', 'to do': 'would be set', done: 'set', left: 'left unchanged' },
    ...{ 'not here': 'not possible here', failed: 'FAILED' },
  };
  const rows = steps.map(({ name: what, is, wanted, state }) => [
    what,
    states[state],
    state === 'as wanted' || state === 'left' ? is : `${is} → ${wanted}`,
  ]);
  const lines = [`Bucket of ${name}`, ...table(rows, { indent: 2 })];
  for (const { name: what, why } of steps) if (why !== undefined) lines.push(`! ${what}: ${why}`);
  for (const { message, hint, code } of ruleProblems(name, problems)) lines.push(`! ${message} (${code})`, `  ${hint}`);
  const todo = steps.some(({ state }) => state === 'to do');
  if (!yes) lines.push(todo ? 'Nothing was changed. Apply the settings with --yes.' : 'Nothing to do.');
  return lines.join('\n');
}

function renderUndelete(name: string, before: Date, result: UndeleteResult, yes: boolean): string {
  const { same, undeleted, copied, hidden, bytes, failed } = result;
  const will = yes ? '' : 'would be ';
  const lines = [
    `${name} as of ${before.toISOString()}: ${plural(same, 'object')} unchanged`,
    `  ${formatCount(undeleted)} deleted since, ${will}restored`,
    `  ${formatCount(copied)} overwritten since, ${will}copied back`,
    `  ${formatCount(hidden)} stored since, ${will}hidden (the bucket keeps them as versions)`,
    `  ${formatBytes(bytes)} in total`,
  ];
  for (const { key, error } of failed.slice(0, 10)) {
    lines.push(`! ${key}: ${error.message}${error.cause === undefined ? '' : `: ${error.cause}`} (${error.code})`);
  }
  if (failed.length > 10) lines.push(`! and ${plural(failed.length - 10, 'other object')}`);
  if (!yes)
    lines.push(
      'Nothing was changed. Stop Lifeboat (`docker compose stop lifeboat`), then apply the changes with --yes.',
    );
  else
    lines.push(
      'Now run `lifeboat check --read-data`. Then give Lifeboat a new key, because somebody else has the old one.',
    );
  return lines.join('\n');
}
