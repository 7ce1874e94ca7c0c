"""GRPO on Ray RLlib from any image-text-to-text checkpoint.

Run: python examples/train_grpo.py runs/demo/sft --iterations 20
"""

from __future__ import annotations

import argparse

from retouch_agents.rllib import GRPO, GRPOConfig, start_ray


def main() -> None:
    """Train, print a line per iteration, write the policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or id that AutoModelForImageTextToText opens")
    parser.add_argument("--dataset", default="samples", help="for instance samples, pairs:FOLDER, module:attribute")
    parser.add_argument("--reward", default="edit", help="for instance edit, likeness, module:attribute")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=16, help="tasks per iteration")
    parser.add_argument("--group-size", type=int, default=8, help="answers per task")
    parser.add_argument("--env-runners", type=int, default=2, help="remote Ray env runners")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", default="runs/grpo", help="folder for the trained policy")
    options = parser.parse_args()
    start_ray(num_cpus=max(2, options.env_runners + 1))
    config = (
        GRPOConfig()
        .environment(
            "Retouch/Retouch-v0",
            env_config={"dataset": options.dataset, "reward": options.reward, "max_turns": 1},
        )
        .training(
            model=options.model,
            group_size=options.group_size,
            prompts_per_iteration=options.prompts,
            lr=options.lr,
        )
        .env_runners(num_env_runners=options.env_runners)
    )
    algorithm = GRPO(config=config)
    for iteration in range(1, options.iterations + 1):
        found = algorithm.train()["grpo"]
        print(
            f"{iteration:4d}  reward {found['reward_mean']:+.3f}  well-formed {found['well_formed_rate']:.0%}"
            f"  KL {found['kl']:.3f}  {found['tokens_per_second']:.0f} tokens/s"
        )
    print("policy written to", algorithm.export_policy(options.out))
    algorithm.stop()


if __name__ == "__main__":
    main()
