import type { TargetState } from '../targets/judge.ts';
import type { Facts } from './facts.ts';
import { gauge, type Metric, type Sample } from './metric.ts';

/** Metrics of the targets of sources. A source without a target has none. */
export const TARGETS: Record<string, Metric> = {
  lifeboat_rpo_seconds: gauge('Work that the loss of a source would cost now.', ['source'], ({ facts }) =>
    ofTargets(facts, 'rpo', ({ measuredMs }) => measuredMs),
  ),
  lifeboat_rpo_target_seconds: gauge('The most work that the loss of a source may cost.', ['source'], ({ facts }) =>
    ofTargets(facts, 'rpo', ({ targetMs }) => targetMs),
  ),
  lifeboat_rto_seconds: gauge('Time that the last restore or drill of a source took.', ['source'], ({ facts }) =>
    ofTargets(facts, 'rto', ({ measuredMs }) => measuredMs),
  ),
  lifeboat_rto_target_seconds: gauge('The longest that a restore of a source may take.', ['source'], ({ facts }) =>
    ofTargets(facts, 'rto', ({ targetMs }) => targetMs),
  ),
};

function ofTargets(
  { overview }: Facts,
  kind: TargetState['kind'],
  pick: (target: TargetState) => number | undefined,
): Sample[] {
  return overview.targets.flatMap(({ name, targets }) =>
    targets.flatMap((target): Sample[] => {
      const ms = target.kind === kind ? pick(target) : undefined;
      return ms === undefined ? [] : [[ms / 1000, { source: name }]];
    }),
  );
}
