import type { GetBucketLifecycleConfigurationOutput, LifecycleRule } from '@aws-sdk/client-s3';
import type { DefaultLock } from './locks.ts';
import { describeRule, harmfulRules, ownRule, type RuleProblem, type RuleWish, ruleId, sameRule } from './rules.ts';

/** The wanted settings of a bucket, and the steps to reach them. Decisions without I/O. */

/** One setting of a bucket: its value, or why the value is not known. */
export type Aspect<T> = { value: T } | { unsupported: true } | { denied: true };

export type LeastTransition = NonNullable<GetBucketLifecycleConfigurationOutput['TransitionDefaultMinimumObjectSize']>;

/** The current settings of a bucket. */
export interface BucketLook {
  exists: boolean;
  versioning: Aspect<boolean>;
  /** `enabled`: objects can be locked; `standard`: new objects are locked automatically */
  lock: Aspect<{ enabled: boolean; standard?: DefaultLock }>;
  publicAccessBlocked: Aspect<boolean>;
  rules: Aspect<LifecycleRule[]>;
  /** AWS only: which objects are too small for all rules that move them */
  leastTransition?: LeastTransition;
  /** the key of an object that is not Lifeboat's, if there is one */
  foreign?: string;
}

/** The wanted settings. */
export interface SetupWish {
  rule: RuleWish;
  /** absent: the lock stays as it is */
  lock?: DefaultLock;
  /** changes settings of the whole bucket even if others use it */
  wholeBucket: boolean;
}

export type StepName = 'bucket' | 'versioning' | 'lock' | 'public access' | 'lifecycle';

/** One setting to check, and to change. */
export interface SetupStep {
  name: StepName;
  /** the current value, in words */
  is: string;
  wanted: string;
  /** `left`: deliberately unchanged; `not here`: the server does not support it */
  state: 'as wanted' | 'to do' | 'done' | 'left' | 'not here' | 'failed';
  why?: string;
}

interface Comparison<T> {
  aspect: Aspect<T>;
  wanted: string;
  words: (value: T) => string;
  isWanted: (value: T) => boolean;
}

/** Returns the settings to change, in the necessary order, and the existing rules that would harm backups. */
export function planSetup(
  look: BucketLook,
  wish: SetupWish,
  prefix: string,
): { steps: SetupStep[]; problems: RuleProblem[] } {
  const steps: SetupStep[] = [];
  const compare = <T>(name: StepName, { aspect, wanted, words, isWanted }: Comparison<T>) => {
    if ('unsupported' in aspect) {
      steps.push({ name, is: 'not supported by this server', wanted, state: 'not here' });
    } else if ('denied' in aspect) {
      steps.push({ name, is: 'unknown', wanted, state: 'failed', why: 'this key may not read it' });
    } else {
      steps.push({ name, is: words(aspect.value), wanted, state: isWanted(aspect.value) ? 'as wanted' : 'to do' });
    }
  };
  const onOff = (value: boolean) => (value ? 'on' : 'off');
  if (!look.exists) steps.push({ name: 'bucket', is: 'does not exist', wanted: 'exists', state: 'to do' });
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
    steps.push({ name: 'lock', is: lockWords(look.lock.value), wanted: 'unchanged', state: 'left' });
  }
  const own = ownRule(prefix, wish.rule);
  const ours = (rules: readonly LifecycleRule[]) => rules.find(({ ID }) => ID === ruleId(prefix));
  compare('lifecycle', {
    aspect: look.rules,
    wanted: describeRule(own),
    words: (rules) => {
      const others = rules.length - (ours(rules) ? 1 : 0);
      const rule = ours(rules);
      const more = others > 0 ? `; ${others} other ${others === 1 ? 'rule stays' : 'rules stay'}` : '';
      return `${rule ? describeRule(rule) : 'no Lifeboat rule'}${more}`;
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

/** Leaves settings of the whole bucket unchanged if others store there, because they did not ask for the change. */
function spareOthers(step: SetupStep, { foreign }: BucketLook, { wholeBucket }: SetupWish): SetupStep {
  if (step.name === 'lifecycle' || step.state !== 'to do' || foreign === undefined || wholeBucket) return step;
  const why = `it applies to the whole bucket, which contains other objects, such as ${foreign}; --whole-bucket sets it anyway`;
  return { ...step, state: 'left', why };
}

/** `30 days, governance`. */
function describeLock({ mode, days }: DefaultLock): string {
  return `${days} ${days === 1 ? 'day' : 'days'}, ${mode.toLowerCase()}`;
}

function lockWords({ enabled, standard }: { enabled: boolean; standard?: DefaultLock }): string {
  if (standard) return describeLock(standard);
  return enabled ? 'possible, but not by default' : 'off';
}
