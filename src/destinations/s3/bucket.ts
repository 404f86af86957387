import type { BucketLocationConstraint, LifecycleRule } from '@aws-sdk/client-s3';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import type { S3Location } from '../../plan/s3-location.ts';
import { S3Connection, type S3Credentials, type S3Request } from './client.ts';
import { defaultLock } from './locks.ts';
import { blockPublicAccess, isBlocked } from './public-access.ts';
import { S3_LIMITS, type S3Limits, statusOf } from './retry.ts';
import { harmfulRules, mergeRules, ownRule, type RuleProblem } from './rules.ts';
import {
  type Aspect,
  type BucketLook,
  type LeastTransition,
  planSetup,
  type SetupStep,
  type SetupWish,
  type StepName,
} from './setup.ts';
import { type UndeleteResult, undeleteObjects } from './undelete.ts';

interface S3BucketOptions {
  location: S3Location;
  credentials?: S3Credentials;
  customerKey?: string | undefined;
  env?: NodeJS.ProcessEnv;
  limits?: Partial<S3Limits>;
}

/** The result of setting up a bucket. */
export interface SetupOutcome {
  steps: SetupStep[];
  /** existing rules that delete what snapshots need, or make it unreadable */
  problems: RuleProblem[];
}

/** Some servers show new settings only after a moment. */
const READ_BACKS = 5;

/** A bucket and its settings. Needs the rights of the bucket's administrator; the agent needs none of them. */
export class S3Bucket {
  readonly s3: S3Connection;
  readonly location: S3Location;

  constructor({ location, credentials, customerKey, env = process.env, limits }: S3BucketOptions) {
    this.location = location;
    this.s3 = new S3Connection({
      location,
      customerKey,
      limits: { ...S3_LIMITS, ...limits },
      env,
      ...(credentials ? { credentials } : {}),
    });
  }

  /** Reads the settings of the bucket. Changes nothing. */
  async look(): Promise<BucketLook> {
    const Bucket = this.s3.bucket;
    const versioning = await this.aspect(
      (sdk, client, options) => client.send(new sdk.GetBucketVersioningCommand({ Bucket }), options),
      ({ Status }) => Status === 'Enabled',
      false,
    );
    if (versioning === 'no bucket') {
      const none = { versioning: { value: false }, publicAccessBlocked: { value: false }, rules: { value: [] } };
      return { exists: false, lock: { value: { enabled: false } }, ...none };
    }
    const lock = await this.aspect(
      (sdk, client, options) => client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket }), options),
      ({ ObjectLockConfiguration: is }) => {
        const standard = defaultLock(is);
        return { enabled: is?.ObjectLockEnabled === 'Enabled', ...(standard ? { standard } : {}) };
      },
      { enabled: false },
    );
    const publicAccess = await this.aspect(
      (sdk, client, options) => client.send(new sdk.GetPublicAccessBlockCommand({ Bucket }), options),
      ({ PublicAccessBlockConfiguration: is }) => isBlocked(is),
      false,
    );
    const rules = await this.rules();
    const foreign = await this.foreignKey();
    const there = <T>(one: Aspect<T> | 'no bucket'): Aspect<T> => (one === 'no bucket' ? { unsupported: true } : one);
    return {
      exists: true,
      versioning,
      lock: there(lock),
      publicAccessBlocked: there(publicAccess),
      rules: rules !== 'no bucket' && 'value' in rules ? { value: rules.value.rules } : there<LifecycleRule[]>(rules),
      ...(rules !== 'no bucket' && 'value' in rules && rules.value.least ? { leastTransition: rules.value.least } : {}),
      ...(foreign === undefined ? {} : { foreign }),
    };
  }

  /** Returns the steps that `setUp` would take. Changes nothing. */
  async plan(wish: SetupWish): Promise<SetupOutcome> {
    return planSetup(await this.look(), wish, this.s3.prefix);
  }

  /**
   * Applies the settings that differ from the wanted ones, and reads them back. A setting that fails, or that the
   * server does not support, is reported in its step, and the others are still applied.
   */
  async setUp(wish: SetupWish): Promise<SetupOutcome> {
    const before = await this.look();
    const { steps, problems } = planSetup(before, wish, this.s3.prefix);
    for (const step of steps) {
      if (step.state !== 'to do') continue;
      try {
        const why = await this.set(step.name, before, wish);
        Object.assign(step, why === undefined ? { state: 'done' } : { state: 'not here', why });
      } catch (error) {
        const lateLock = step.name === 'lock' && error instanceof Error && error.name === 'InvalidBucketState';
        if (lateLock)
          Object.assign(step, {
            state: 'not here',
            why: 'this server only locks buckets that were created with a lock',
          });
        else if (isUnsupported(error))
          Object.assign(step, { state: 'not here', why: 'this server does not support it' });
        else {
          const { message, cause } = errorInfo(this.s3.explain(error, 'bucket'));
          Object.assign(step, { state: 'failed', why: [message, cause].filter(Boolean).join(': ') });
          // The other steps need the bucket.
          if (step.name === 'bucket') break;
        }
      }
    }
    await this.readBack(steps, wish);
    return { steps, problems };
  }

  /**
   * Returns the rules that delete what snapshots need, or make it unreadable. Returns none if the key may not read the
   * rules.
   */
  async harmfulRules(): Promise<RuleProblem[]> {
    const rules = await this.rules();
    return rules !== 'no bucket' && 'value' in rules ? harmfulRules(rules.value.rules, this.s3.prefix) : [];
  }

  /** See {@link undeleteObjects}. */
  undelete(options: { at: number; dryRun: boolean; signal: AbortSignal }): Promise<UndeleteResult> {
    return undeleteObjects(this.s3, options);
  }

  private async readBack(steps: SetupStep[], wish: SetupWish): Promise<void> {
    for (let number = 1; steps.some(({ state }) => state === 'done'); number++) {
      const now = await this.plan(wish);
      const wrong = steps.filter(({ name, state }) => {
        const found = now.steps.find((step) => step.name === name);
        return state === 'done' && found !== undefined && found.state !== 'as wanted';
      });
      if (wrong.length === 0) return;
      if (number === READ_BACKS) {
        for (const step of wrong) {
          const found = now.steps.find(({ name }) => name === step.name);
          Object.assign(step, { state: 'failed', why: `the server accepted it, but now reports: ${found?.is}` });
        }
        return;
      }
      await this.s3.pause(number);
    }
  }

  /** Applies one setting. Resolves to the reason if only trying shows that the server does not support it. */
  private async set(name: StepName, before: BucketLook, wish: SetupWish): Promise<string | undefined> {
    const Bucket = this.s3.bucket;
    const send = (request: S3Request<unknown>) => this.s3.send(request);
    if (name === 'bucket') {
      const { endpoint, region } = this.location;
      const there = endpoint === undefined && region !== undefined && region !== 'us-east-1';
      const where = { LocationConstraint: region as BucketLocationConstraint };
      const how = {
        ...(wish.lock ? { ObjectLockEnabledForBucket: true } : {}),
        ...(there ? { CreateBucketConfiguration: where } : {}),
      };
      await send((sdk, client, options) => client.send(new sdk.CreateBucketCommand({ Bucket, ...how }), options));
    } else if (name === 'versioning') {
      const VersioningConfiguration = { Status: 'Enabled' as const };
      await send((sdk, client, options) =>
        client.send(new sdk.PutBucketVersioningCommand({ Bucket, VersioningConfiguration }), options),
      );
    } else if (name === 'public access') {
      return blockPublicAccess(this.s3);
    } else if (name === 'lock' && wish.lock) {
      const Rule = { DefaultRetention: { Mode: wish.lock.mode, Days: wish.lock.days } };
      const lock = { Bucket, ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled' as const, Rule } };
      await send((sdk, client, options) => client.send(new sdk.PutObjectLockConfigurationCommand(lock), options));
    } else if (name === 'lifecycle' && 'value' in before.rules) {
      const Rules = mergeRules(before.rules.value, ownRule(this.s3.prefix, wish.rule));
      // Otherwise AWS resets this value, for all other rules too.
      const least = before.leastTransition ? { TransitionDefaultMinimumObjectSize: before.leastTransition } : {};
      const rules = { Bucket, LifecycleConfiguration: { Rules }, ...least };
      await send((sdk, client, options) => client.send(new sdk.PutBucketLifecycleConfigurationCommand(rules), options));
    }
    return undefined;
  }

  private rules(): Promise<Aspect<{ rules: LifecycleRule[]; least?: LeastTransition }> | 'no bucket'> {
    const { bucket: Bucket } = this.s3;
    return this.aspect(
      (sdk, client, options) => client.send(new sdk.GetBucketLifecycleConfigurationCommand({ Bucket }), options),
      ({ Rules = [], TransitionDefaultMinimumObjectSize: least }) => ({ rules: Rules, ...(least ? { least } : {}) }),
      { rules: [] },
    );
  }

  /** Reads one setting. A 404 response means `absent`. */
  private async aspect<A, T>(
    request: S3Request<A>,
    read: (answer: A) => T,
    absent: T,
  ): Promise<Aspect<T> | 'no bucket'> {
    try {
      return { value: read(await this.s3.send(request)) };
    } catch (error) {
      if (error instanceof Error && error.name === 'NoSuchBucket') return 'no bucket';
      if (isUnsupported(error)) return { unsupported: true };
      if (statusOf(error) === 404) return { value: absent };
      const explained = this.s3.explain(error, 'bucket');
      const refused =
        statusOf(error) === 403 && explained instanceof LifeboatError && /let this key/.test(explained.message);
      if (refused) return { denied: true };
      throw explained;
    }
  }

  /**
   * Returns an object outside the prefix, if there is one. The first key of the bucket, and the first after the prefix,
   * show this.
   */
  private async foreignKey(): Promise<string | undefined> {
    const { bucket: Bucket, prefix } = this.s3;
    if (prefix === '') return undefined;
    const first = async (from: { StartAfter?: string }) => {
      const { Contents = [] } = await this.s3.send((sdk, client, options) =>
        client.send(new sdk.ListObjectsV2Command({ Bucket, MaxKeys: 1, ...from }), options),
      );
      return Contents[0]?.Key;
    };
    try {
      for (const from of [{}, { StartAfter: `${prefix.slice(0, -1)}0` }]) {
        const key = await first(from);
        if (key !== undefined && !key.startsWith(prefix)) return key;
      }
      return undefined;
    } catch (error) {
      throw this.s3.explain(error, 'list');
    }
  }
}

/** Returns true for the responses of servers that do not know a setting. */
function isUnsupported(error: unknown): boolean {
  const status = statusOf(error);
  if (status === 501 || status === 405) return true;
  return error instanceof Error && /^(NotImplemented|MethodNotAllowed|UnsupportedOperation)$/.test(error.name);
}
