// Example policy: restarts a kubelet that does not run, and nothing else.

export const policy = {
  describe: () => ({
    name: 'only-kubelet',
    version: '1.0.0',
    description: 'restarts a kubelet that does not run',
    rules: [{ id: 'kubelet-down', summary: 'kubelet does not run: restart it' }],
  }),
  decide: (seen) => seen.services
    .filter((service) => service.name === 'kubelet' && ['inactive', 'failed'].includes(service.state))
    .map((service) => ({
      ruleId: 'kubelet-down',
      action: { tag: 'restart-kubelet' },
      reason: `kubelet does not run (${service.detail})`,
      evidence: [],
      confidence: 0.75,
      maxAttempts: 3,
      coolDownMs: 15000, // QuickJS: a number; other engines of jco want a BigInt
    })),
};
