import type { GetBucketLifecycleConfigurationOutput, LifecycleRule } from '@aws-sdk/client-s3';
import type { DefaultLock } from './locks.ts';
import { describeRule, harmfulRules, ownRule, type RuleProblem, type RuleWish, ruleId, sameRule } from './rules.ts';

/** What a bucket should be set to, and what has to be done for it. Decisions without I/O. */

/** One thing that a bucket may have: as it is, or why that is not known. */
export type Aspect<T> = { value: T } | { unsupported: true } | { denied: true };

export type LeastTransition = NonNullable<GetBucketLifecycleConfigurationOutput['TransitionDefaultMinimumObjectSize']>;

/** A bucket as it is. */
export interface BucketLook {
  exists: boolean;
  versioning: Aspect<boolean>;
  /** `enabled`: objects can be locked; `standard`: what is stored is locked by itself */
  lock: Aspect<{ enabled: boolean; standard?: DefaultLock }>;
  publicAccessBlocked: Aspect<boolean>;
  rules: Aspect<LifecycleRule[]>;
  /** which objects are too small for all rules that move them, as AWS has it */
  leastTransition?: LeastTransition;
  /** the name of an object that is not Lifeboat's, if there is one */
  foreign?: string;
}

/** What it should be. */
export interface SetupWish {
  rule: RuleWish;
  /** absent: the lock stays as it is */
  lock?: DefaultLock;
  /** what counts for the whole bucket is set although others store there too */
  wholeBucket: boolean;
}

export type StepName = 'bucket' | 'versioning' | 'lock' | 'public access' | 'lifecycle';

/** One thing to look at, and to set. */
export interface SetupStep {
  name: StepName;
  /** in words */
  is: string;
  wanted: string;
  /** `left`: not touched on purpose; `not here`: the server does not have it */
  state: 'as wanted' | 'to do' | 'done' | 'left' | 'not here' | 'failed';
  why?: string;
}

interface Comparison<T> {
  aspect: Aspect<T>;
  wanted: string;
  words: (value: T) => string;
  isWanted: (value: T) => boolean;
}

/** What to set at a bucket, in the order in which it has to be done, and which rules of others would harm backups. */
export function planSetup(
  look: BucketLook,
  wish: SetupWish,
  prefix: string,
): { steps: SetupStep[]; problems: RuleProblem[] } {
  const steps: SetupStep[] = [];
  const compare = <T>(name: StepName, { aspect, wanted, words, isWanted }: Comparison<T>) => {
    if ('unsupported' in aspect) {
      steps.push({ name, is: 'not known to this server', wanted, state: 'not here' });
    } else if ('denied' in aspect) {
      steps.push({ name, is: 'not known', wanted, state: 'failed', why: 'this key may not look at it' });
    } else {
      steps.push({ name, is: words(aspect.value), wanted, state: isWanted(aspect.value) ? 'as wanted' : 'to do' });
    }
  };
  const onOff = (value: boolean) => (value ? 'on' : 'off');
  if (!look.exists) steps.push({ name: 'bucket', is: 'not there', wanted: 'made', state: 'to do' });
  const isOn = (value: boolean) => value;
  compare('versioning', { aspect: look.versioning, wanted: 'on', words: onOff, isWanted: isOn });
  compare('public access', {
    aspect: look.publicAccessBlocked,
    wanted: 'blocked',
    words: (on) => (on ? 'blocked' : 'not blocked'),
    isWanted: isOn,
  });
  const { lock } = wish;
  if (lock) {
    const same = (one: DefaultLock | undefined) => one?.mode === lock.mode && one.days === lock.days;
    const wanted = describeLock(lock);
    compare('lock', { aspect: look.lock, wanted, words: lockWords, isWanted: ({ standard }) => same(standard) });
  } else if ('value' in look.lock) {
    steps.push({ name: 'lock', is: lockWords(look.lock.value), wanted: 'as it is', state: 'left' });
  }
  const own = ownRule(prefix, wish.rule);
  const ours = (rules: readonly LifecycleRule[]) => rules.find(({ ID }) => ID === ruleId(prefix));
  compare('lifecycle', {
    aspect: look.rules,
    wanted: describeRule(own),
    words: (rules) => {
      const others = rules.length - (ours(rules) ? 1 : 0);
      const rule = ours(rules);
      const more = others > 0 ? `; ${others} of others, which ${others === 1 ? 'stays' : 'stay'}` : '';
      return `${rule ? describeRule(rule) : 'no rule of Lifeboat’s'}${more}`;
    },
    isWanted: (rules) => {
      const rule = ours(rules);
      return rule !== undefined && sameRule(rule, own);
    },
  });
  return {
    steps: steps.map((step) => spareOthers(step, look, wish)),
    problems: 'value' in look.rules ? harmfulRules(look.rules.value, prefix) : [],
  };
}

/** Others who store in the bucket did not ask for any of it. */
function spareOthers(step: SetupStep, { foreign }: BucketLook, { wholeBucket }: SetupWish): SetupStep {
  if (step.name === 'lifecycle' || step.state !== 'to do' || foreign === undefined || wholeBucket) return step;
  const why = `it counts for the whole bucket, which holds other things, such as ${foreign}; --whole-bucket sets it all the same`;
  return { ...step, state: 'left', why };
}

/** `30 days, governance`. */
function describeLock({ mode, days }: DefaultLock): string {
  return `${days} ${days === 1 ? 'day' : 'days'}, ${mode.toLowerCase()}`;
}

function lockWords({ enabled, standard }: { enabled: boolean; standard?: DefaultLock }): string {
  if (standard) return describeLock(standard);
  return enabled ? 'possible, not for each object by itself' : 'off';
}
