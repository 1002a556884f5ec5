"""Learners that stable-baselines3 does not have: PPO in lockstep, REINFORCE, GRPO. Internal."""
